"""Fully connected networks."""

import dataclasses
from typing import Any, Literal

from flax import nnx

from models.batch import Sizes
from models.config import config, setting, static
from models.networks.decoder import Decoder
from models.networks.encoder import Encoder
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

    def mirrored(self) -> "Dense":
        """Return the decoder that reverses this encoder."""
        return dataclasses.replace(self, hidden=self.hidden[::-1])

    def image_sizes(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Return (): no convolutions."""
        return ()

    def build_encoder(self, sizes: Sizes, numbers: int, extra: int, rngs: nnx.Rngs) -> Encoder:
        """Return the network from example to the numbers of its posterior."""
        return Encoder(self, sizes.shape, numbers, extra=extra, rngs=rngs)

    def build_decoder(self, inputs: int, sizes: Sizes, channels: int, rngs: nnx.Rngs, encoder: Any) -> Decoder:
        """Return the network from code to the likelihood's numbers; the config of the encoder is unused."""
        return Decoder(self, inputs, sizes.shape, channels, rngs=rngs)
