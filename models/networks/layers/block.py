"""One hidden layer: affine map or convolution, normalisation, activation, dropout."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.networks.layers.activation import activation
from models.networks.layers.norm import BatchNorm, LayerNorm

Values = Float[Array, "batch *features"]


def dropout(x: Values, rate: float, key: PRNGKeyArray | None) -> Values:
    """Zero each value with probability `rate` and divide the rest by 1 - rate; nothing without a key."""
    if key is None or rate == 0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


class Block(nnx.Module):
    """layer -> norm -> activation -> dropout; the last layer of a network is a bare layer instead."""

    def __init__(self, layer: Any, features: int, cfg: Any):
        norms = {"none": None, "batch": BatchNorm, "layer": LayerNorm}
        self.layer = layer
        self.norm = None if norms[cfg.norm] is None else norms[cfg.norm](features)
        self.activation = cfg.activation
        self.rate = cfg.dropout

    def __call__(
        self, x: Values, key: PRNGKeyArray | None, *args: Any, kept: list[Any] | None = None
    ) -> Float[Array, "batch *outputs"]:
        """Return the output; a key means training mode. `args` go to the layer (kernel, size); kept gets its y."""
        y = self.layer(x, *args)
        if kept is not None:
            kept.append(y)
        if self.norm is not None:
            y = self.norm(y, training=key is not None)
        return dropout(activation(self.activation)(y), self.rate, key)
