"""Normalisation over the batch or over each example."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.config import ConfigError
from models.distributions import at_least_float32

Values = Float[Array, "batch *features"]


class BatchNorm(nnx.Module):
    """(x - mean) / std per feature (last axis), then scale and shift (Ioffe & Szegedy 2015).

    With `training` the batch's statistics are used and the running ones (`nnx.BatchStat`) move towards them;
    otherwise the running ones are used.
    """

    def __init__(self, features: int, momentum: float = 0.9):
        self.mean, self.var = nnx.BatchStat(jnp.zeros(features)), nnx.BatchStat(jnp.ones(features))
        self.scale, self.bias = nnx.Param(jnp.ones(features)), nnx.Param(jnp.zeros(features))
        self.momentum = momentum

    def __call__(self, x: Values, training: bool) -> Values:
        """Return x normalised; updates the running statistics when `training`."""
        mean, var = self.mean[...], self.var[...]
        if training:
            axes = tuple(range(x.ndim - 1))
            if x.size == x.shape[-1]:
                raise ConfigError(
                    "norm 'batch' needs more than one value of each feature per batch, here one example of one place: "
                    "use a larger batch_size, or norm 'layer'"
                )
            # at least float32: a variance in bfloat16 keeps two digits
            full = at_least_float32(x)
            batch_mean, batch_var = jnp.mean(full, axes), jnp.var(full, axes)
            keep = lambda old, new: self.momentum * old + (1 - self.momentum) * jax.lax.stop_gradient(new)
            self.mean[...] = keep(mean, batch_mean).astype(mean.dtype)
            self.var[...] = keep(var, batch_var).astype(var.dtype)
            mean, var = batch_mean, batch_var
        return _affine(x, mean, var, self.scale[...], self.bias[...])


class LayerNorm(nnx.Module):
    """(x - mean) / std over the last axis of each example, then scale and shift (Ba et al. 2016).

    Statistics are taken in at least float32.
    """

    def __init__(self, features: int):
        self.scale, self.bias = nnx.Param(jnp.ones(features)), nnx.Param(jnp.zeros(features))

    def __call__(self, x: Values, training: bool) -> Values:
        """Return x normalised; `training` makes no difference."""
        full = at_least_float32(x)
        mean, var = jnp.mean(full, -1, keepdims=True), jnp.var(full, -1, keepdims=True)
        return _affine(x, mean, var, self.scale[...], self.bias[...])


def _affine(x: Values, mean: Array, var: Array, scale: Array, bias: Array) -> Values:
    over = lambda v: v if v.ndim == x.ndim else v.reshape((1,) * (x.ndim - 1) + v.shape)
    slope = over(scale) * jax.lax.rsqrt(over(var) + 1e-5)
    return ((x - over(mean)) * slope + over(bias)).astype(x.dtype)
