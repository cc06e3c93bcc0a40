"""The pieces of every network: affine maps (free or tied), normalisation, activation, dropout."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.config import ConfigError, nearest
from models.convolution import conv_transpose

Values = Float[Array, "batch *features"]


def identity(x: Values) -> Values:
    """Return x."""
    return x


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "identity": identity,
    "leaky_relu": jax.nn.leaky_relu,
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "sin": jnp.sin,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


def activation(name: str) -> Callable[[Array], Array]:
    """Return the activation of that name; ConfigError, naming the nearest, for an unknown one."""
    if name not in ACTIVATIONS:
        close = ", ".join(nearest(name, ACTIVATIONS))
        raise ConfigError(f"unknown activation {name!r}; nearest: {close}")
    return ACTIVATIONS[name]


def dropout(x: Values, rate: float, key: PRNGKeyArray | None) -> Values:
    """Zero each value with probability `rate` and divide the rest by 1 - rate; nothing without a key."""
    if key is None or rate == 0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


class Linear(nnx.Module):
    """x kernel + bias, kernel (inputs, outputs) drawn by Glorot & Bengio 2010's uniform rule, bias zero."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "batch inputs"]) -> Float[Array, "batch outputs"]:
        """Return the affine map of x."""
        return x @ self.kernel[...] + self.bias[...][None]


class TiedLinear(nnx.Module):
    """x kernelᵀ + bias: it owns the bias only and is given the encoder's kernel at every call."""

    def __init__(self, outputs: int):
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(
        self, x: Float[Array, "batch inputs"], kernel: Float[Array, "outputs inputs"]
    ) -> Float[Array, "batch outputs"]:
        """Return the affine map of x."""
        return x @ kernel.T + self.bias[...][None]


class TiedConvTranspose(nnx.Module):
    """The adjoint of the encoder's convolution, plus a bias of its own."""

    def __init__(self, outputs: int, stride: int):
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.stride = stride

    def __call__(
        self,
        x: Float[Array, "batch h w inputs"],
        size: tuple[int, int],
        kernel: Float[Array, "rows columns outputs inputs"],
    ) -> Float[Array, "batch height width outputs"]:
        """Return images of `size`."""
        y = conv_transpose(x, jnp.swapaxes(kernel, 2, 3), self.stride, size)
        return y + self.bias[...][None, None, None]


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
            # at least float32: a variance in bfloat16 keeps two digits
            full = x.astype(jnp.promote_types(x.dtype, mean.dtype))
            batch_mean, batch_var = jnp.mean(full, axes), jnp.var(full, axes)
            keep = lambda old, new: self.momentum * old + (1 - self.momentum) * jax.lax.stop_gradient(new)
            self.mean[...] = keep(mean, batch_mean).astype(mean.dtype)
            self.var[...] = keep(var, batch_var).astype(var.dtype)
            mean, var = batch_mean, batch_var
        return _affine(x, mean, var, self.scale[...], self.bias[...])


class LayerNorm(nnx.Module):
    """(x - mean) / std over the last axis of each example, then scale and shift (Ba et al. 2016)."""

    def __init__(self, features: int):
        self.scale, self.bias = nnx.Param(jnp.ones(features)), nnx.Param(jnp.zeros(features))

    def __call__(self, x: Values, training: bool) -> Values:
        """Return x normalised; `training` makes no difference."""
        mean, var = jnp.mean(x, -1, keepdims=True), jnp.var(x, -1, keepdims=True)
        return _affine(x, mean, var, self.scale[...], self.bias[...])


def _affine(x: Values, mean: Array, var: Array, scale: Array, bias: Array) -> Values:
    over = lambda v: v if v.ndim == x.ndim else v.reshape((1,) * (x.ndim - 1) + v.shape)
    slope = over(scale) * jax.lax.rsqrt(over(var) + 1e-5)
    return ((x - over(mean)) * slope + over(bias)).astype(x.dtype)


class Block(nnx.Module):
    """layer -> norm -> activation -> dropout; the last layer of a network is a bare layer instead."""

    def __init__(self, layer: Any, features: int, cfg: Any):
        norms = {"none": None, "batch": BatchNorm, "layer": LayerNorm}
        self.layer = layer
        self.norm = None if norms[cfg.norm] is None else norms[cfg.norm](features)
        self.activation = cfg.activation
        self.rate = cfg.dropout

    def __call__(self, x: Values, key: PRNGKeyArray | None, *args: Any) -> Float[Array, "batch *outputs"]:
        """Return the block's output; a key means training mode. `args` go to the layer (kernel, size)."""
        y = self.layer(x, *args)
        if self.norm is not None:
            y = self.norm(y, training=key is not None)
        return dropout(activation(self.activation)(y), self.rate, key)
