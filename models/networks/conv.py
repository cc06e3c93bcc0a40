"""Convolutional networks."""

from typing import Literal

from models.config import ConfigError, config, setting, static
from models.networks.layers import activation


@config
class Conv:
    """Convolutions of (H, W, C) images with SAME padding, then fully connected layers.

    An encoder goes from image to code; a decoder lists its channels and widths from code to image, its first
    channels being those of the smallest map.
    """

    channels: tuple[int, ...] = setting((32, 64), at_least=1)
    """output channels of each convolution (encoder), input channels of each transposed one (decoder)"""
    kernel: int = setting(3, at_least=1)
    """height and width of every kernel, pixels"""
    stride: int = setting(2, at_least=1)
    """factor by which every layer divides (encoder) or multiplies (decoder) height and width"""
    hidden: tuple[int, ...] = setting((), at_least=1)
    """widths of fully connected layers between the convolutions and the code; empty: none"""
    activation: str = "relu"
    """relu, tanh, sigmoid, gelu, elu, silu, softplus, leaky_relu, identity, ... after every hidden layer"""
    norm: Literal["none", "batch", "layer"] = "none"
    """normalisation before every activation: none, batch, layer (over channels)"""
    dropout: float = static(0.0, at_least=0, below=1)
    """probability with which a hidden value is zeroed in training; 0: none"""

    def check(self) -> None:
        """Raise ConfigError for an unknown activation or no convolution at all."""
        activation(self.activation)
        if not self.channels:
            raise ConfigError("channels must name at least one convolution, got (): use Dense instead")


def image_sizes(cfg: Conv, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return (H, W) before the first and after every convolution: each divides by the stride, rounding up.

    Raises ConfigError for data that are not (H, W, C) images.
    """
    if len(shape) != 3:
        raise ConfigError(f"Conv needs images of shape (H, W, C), got examples of shape {shape}: use Dense")
    size = (shape[0], shape[1])
    sizes = [size]
    for _ in cfg.channels:
        size = (-(-size[0] // cfg.stride), -(-size[1] // cfg.stride))
        sizes.append(size)
    return sizes
