"""Fully connected networks."""

from typing import Literal

from models.config import config, setting, static
from models.networks.layers import activation


@config
class Dense:
    """Fully connected layers on the flattened example."""

    hidden: tuple[int, ...] = setting((400,), at_least=1)
    """widths of the hidden layers from input to output; empty: a single affine layer"""
    activation: str = "relu"
    """relu, tanh, sigmoid, gelu, elu, silu, softplus, leaky_relu, identity, ... after every hidden layer"""
    norm: Literal["none", "batch", "layer"] = "none"
    """normalisation before every activation: none, batch, layer"""
    dropout: float = static(0.0, at_least=0, below=1)
    """probability with which a hidden value is zeroed in training; 0: none"""

    def check(self) -> None:
        """Raise ConfigError for an unknown activation."""
        activation(self.activation)
