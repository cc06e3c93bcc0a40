"""Fully connected networks."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, PRNGKeyArray

from models.batch import Sizes
from models.config import ConfigError, config, setting, static
from models.networks.decoder import Decoder
from models.networks.encoder import Encoder
from models.networks.layers import activation
from models.networks.layers.block import dropout


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


@config
class Bag:
    """Fully connected layers on counts over their Euclidean length, with dropout on these (Liang et al. 2018)."""

    hidden: tuple[int, ...] = setting((600,), at_least=1)
    """widths of the hidden layers from input to output; empty: a single affine layer"""
    activation: str = "tanh"
    """tanh, relu, sigmoid, gelu, elu, silu, softplus, leaky_relu, identity, ... after every hidden layer"""
    dropout: float = static(0.5, at_least=0, below=1)
    """probability with which a count is zeroed in training; 0: none"""

    def check(self) -> None:
        """Raise ConfigError for an unknown activation."""
        activation(self.activation)

    def fits(self, model: Any) -> None:
        """Raise ConfigError for a decoder that would be its transpose."""
        if model.encoder is self and getattr(model.decoder, "tied", False):
            raise ConfigError("encoder bag has no transpose: use decoder mirror with tied=False")

    def mirrored(self) -> Dense:
        """Return the decoder that reverses the layers."""
        return Dense(self.hidden[::-1], self.activation)

    def build_encoder(self, sizes: Sizes, numbers: int, extra: int, rngs: nnx.Rngs) -> "BagEncoder":
        """Return the network from counts to the numbers of their posterior."""
        return BagEncoder(self, sizes, numbers, extra, rngs)


class BagEncoder(nnx.Module):
    """x / |x|, dropout, then the layers: (batch, *shape) -> (batch, outputs); no counts at all are zeros."""

    def __init__(self, cfg: Bag, sizes: Sizes, outputs: int, extra: int, rngs: nnx.Rngs):
        self.rate = cfg.dropout
        self.net = Encoder(Dense(cfg.hidden, cfg.activation), sizes.shape, outputs, extra=extra, rngs=rngs)

    def __call__(self, x: Array, key: PRNGKeyArray | None = None, extra: Array | None = None) -> Array:
        """Return the head's numbers; a key means training mode."""
        x = x.reshape(len(x), -1)
        square = jnp.sum(jnp.square(x), axis=1, keepdims=True)
        x = x * jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)
        return self.net(dropout(x, self.rate, key), key, extra)
