"""Networks with Jacobians from the chain rule, layer by layer, in NumPy; small here, any size elsewhere."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from grads.testing.register import register_problem

__all__ = ["dense", "dense_jacobian", "dense_weights", "layer_norm_network", "recurrent", "residual"]

Weights = list[tuple[Any, Any]]


def dense_weights(rng: np.random.Generator, sizes: Sequence[int], dtype: Any) -> Weights:
    """Return [(kernel (in, out), bias (out,))] for a dense network of those widths, LeCun-normal kernels."""
    pairs = itertools.pairwise(sizes)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
    return [(normal(a, b) / jnp.asarray(math.sqrt(a), dtype), 0.1 * normal(b)) for a, b in pairs]


def dense(x: Float[Array, " n"], weights: Weights) -> Float[Array, " m"]:
    """tanh after every layer but the last."""
    for kernel, bias in weights[:-1]:
        x = jnp.tanh(x @ kernel + bias)
    return x @ weights[-1][0] + weights[-1][1]


def dense_jacobian(x: Any, weights: Weights) -> Float[np.ndarray, "m n"]:
    """Return the product of diag(1 - tanh^2) W^T over the layers of `dense`."""
    x, j = np.float64(x), np.eye(len(x))
    for kernel, bias in weights[:-1]:
        x = np.tanh(x @ np.float64(kernel) + np.float64(bias))
        j = (1 - x**2)[:, None] * (np.float64(kernel).T @ j)
    return np.float64(weights[-1][0]).T @ j


def _register_dense(name: str, sizes: tuple[int, ...], *tags: str) -> None:
    @register_problem(name, "network", "vector", *tags)
    def _build(rng: np.random.Generator, dtype: Any) -> tuple:
        x = jnp.asarray(rng.normal(size=sizes[0]), dtype)
        return dense, (x, dense_weights(rng, sizes, dtype)), dense_jacobian


_register_dense("dense_encoder", (12, 8, 3), "wide")
_register_dense("dense_decoder", (3, 8, 12), "tall")
_register_dense("dense_autoencoder", (12, 8, 2, 8, 12), "chain")
_register_dense("deep_autoencoder", (16, 12, 8, 4, 2, 4, 8, 12, 16), "chain")


def layer_norm_network(x: Float[Array, " n"], kernel: Float[Array, "n m"]) -> Float[Array, " m"]:
    """tanh(normalise(x) @ kernel), normalise(x) = (x - mean) / sqrt(variance + 1e-5) (Ba et al. 2016)."""
    centred = x - x.mean()
    return jnp.tanh(centred / jnp.sqrt(jnp.mean(centred**2) + 1e-5) @ kernel)


@register_problem("layer_norm", "network", "vector")
def _layer_norm(rng: np.random.Generator, dtype: Any) -> tuple:
    """d normalise(x) / dx = (I - 1 1^T / n - y y^T / n) / s."""

    def first(x: Any, kernel: Any) -> np.ndarray:
        x, kernel = np.float64(x), np.float64(kernel)
        n = len(x)
        s = np.sqrt(x.var() + 1e-5)
        y = (x - x.mean()) / s
        inner = (np.eye(n) - 1 / n - np.outer(y, y) / n) / s
        return (1 - np.tanh(y @ kernel) ** 2)[:, None] * (kernel.T @ inner)

    x, kernel = (jnp.asarray(rng.normal(size=s), dtype) for s in ((6,), (6, 4)))
    return layer_norm_network, (x, kernel), first


def residual(x: Float[Array, " n"], weights: Weights) -> Float[Array, " n"]:
    """x <- x + tanh(x @ kernel + bias), once per pair of weights."""
    for kernel, bias in weights:
        x = x + jnp.tanh(x @ kernel + bias)
    return x


@register_problem("residual", "network", "vector")
def _residual(rng: np.random.Generator, dtype: Any) -> tuple:
    def first(x: Any, weights: Weights) -> np.ndarray:
        x, j = np.float64(x), np.eye(len(x))
        for kernel, bias in weights:
            t = np.tanh(x @ np.float64(kernel) + np.float64(bias))
            j = j + (1 - t**2)[:, None] * (np.float64(kernel).T @ j)
            x = x + t
        return j

    return residual, (jnp.asarray(rng.normal(size=5), dtype), dense_weights(rng, (5, 5, 5), dtype)), first


def recurrent(x: Float[Array, "t n"], kernel: Float[Array, "n h"], loop: Float[Array, "h h"]) -> Float[Array, " h"]:
    """Return the last state of h <- tanh(x_t @ kernel + h @ loop), by `lax.scan` from zero."""
    step = lambda h, u: (jnp.tanh(u @ kernel + h @ loop), None)
    return jax.lax.scan(step, jnp.zeros(loop.shape[0], x.dtype), x)[0]


@register_problem("recurrent", "network", "matrix", "scan")
def _recurrent(rng: np.random.Generator, dtype: Any) -> tuple:
    def first(x: Any, kernel: Any, loop: Any) -> np.ndarray:
        x, kernel, loop = np.float64(x), np.float64(kernel), np.float64(loop)
        h, j = np.zeros(len(loop)), np.zeros((len(loop), *x.shape))
        for t, u in enumerate(x):
            h = np.tanh(u @ kernel + h @ loop)
            j = np.einsum("hk,hts->kts", loop, j)
            j[:, t] += kernel.T
            j *= (1 - h**2)[:, None, None]
        return j

    args = tuple(jnp.asarray(rng.normal(size=s) / 2, dtype) for s in ((4, 3), (3, 5), (5, 5)))
    return recurrent, args, first


@register_problem("convolution", "network", "tensor")
def _convolution(rng: np.random.Generator, dtype: Any) -> tuple:
    """tanh of a 3 x 3 convolution, stride 2, padding 1, channels last; derivative tap by tap."""
    x = jnp.asarray(rng.normal(size=(6, 6, 2)), dtype)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 2, 3)) / 4, dtype)

    def fun(x: jax.Array, kernel: jax.Array) -> jax.Array:
        names, pads = ("NHWC", "HWIO", "NHWC"), ((1, 1), (1, 1))
        out = jax.lax.conv_general_dilated(x[None], kernel, (2, 2), pads, dimension_numbers=names)
        return jnp.tanh(out[0])

    def first(x: Any, kernel: Any) -> np.ndarray:
        x, kernel = np.float64(x), np.float64(kernel)
        linear = np.zeros((3, 3, 3, 6, 6, 2))  # out row, column, channel; in row, column, channel
        for i, j, a, b in np.ndindex(3, 3, 3, 3):
            r, c = 2 * i + a - 1, 2 * j + b - 1
            if 0 <= r < 6 and 0 <= c < 6:
                linear[i, j, :, r, c, :] = kernel[a, b].T
        slope = 1 - np.tanh(np.einsum("ijorcs,rcs->ijo", linear, x)) ** 2
        return slope[..., None, None, None] * linear

    return fun, (x, kernel), first
