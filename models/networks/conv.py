"""Convolutional networks."""

import dataclasses
from typing import Any, Literal

from flax import nnx

from models.batch import Sizes
from models.config import ConfigError, config, setting, static
from models.networks.decoder import Decoder
from models.networks.encoder import Encoder
from models.networks.layers import activation


@config
class Conv:
    """Convolutions of (H, W, C) images, or (steps, C) series, with SAME padding, then fully connected layers.

    An encoder goes from image to code; a decoder lists its channels and widths from code to image, its first
    channels being those of the smallest map.
    """

    channels: tuple[int, ...] = setting((32, 64), at_least=1)
    """output channels of each convolution (encoder), input channels of each transposed one (decoder)"""
    kernel: int = setting(3, at_least=1)
    """height and width of every kernel in pixels; of a series, steps"""
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

    def mirrored(self) -> "Conv":
        """Return the decoder that reverses this encoder."""
        return dataclasses.replace(self, channels=self.channels[::-1], hidden=self.hidden[::-1])

    def image_sizes(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Return (H, W) before the first and after every convolution: each divides by the stride, rounding up.

        A series of steps counts as (steps, 1). Raises ConfigError for data that are neither images nor series.
        """
        if len(shape) not in (2, 3):
            raise ConfigError(
                f"Conv needs images of shape (H, W, C) or series (steps, C), got examples of shape {shape}: use Dense"
            )
        sizes = [(shape[0], shape[1] if len(shape) == 3 else 1)]
        for _ in self.channels:
            sizes.append((-(-sizes[-1][0] // self.stride), -(-sizes[-1][1] // self.stride)))
        return tuple(sizes)

    def taps(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the rows and columns of every kernel: of a series, one column."""
        return self.kernel, self.kernel if len(shape) == 3 else 1

    def build_encoder(self, sizes: Sizes, numbers: int, extra: int, rngs: nnx.Rngs) -> Encoder:
        """Return the network from example to the numbers of its posterior."""
        return Encoder(self, sizes.shape, numbers, extra=extra, rngs=rngs)

    def build_decoder(self, inputs: int, sizes: Sizes, channels: int, rngs: nnx.Rngs, encoder: Any) -> Decoder:
        """Return the network from code to the likelihood's numbers; the config of the encoder is unused."""
        return Decoder(self, inputs, sizes.shape, channels, rngs=rngs)
