"""Problems with sparse or banded Jacobians, among them the two-dimensional Brusselator."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from grads.testing.register import register_problem

__all__ = ["brusselator", "brusselator_jacobian", "brusselator_pattern"]

A, B, ALPHA = 1.0, 3.4, 10.0  # reaction constants and diffusion


@register_problem("tridiagonal", "vector", "sparse", "banded")
def _tridiagonal(rng: np.random.Generator, dtype: Any) -> tuple:
    """One-dimensional diffusion with a cubic reaction, zero boundary."""

    def fun(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, 1)
        return padded[2:] - 2 * x + padded[:-2] + x**3

    def first(x: Any) -> np.ndarray:
        n, ones = len(x), np.ones(len(x) - 1)
        return np.diag(-2 + 3 * np.float64(x) ** 2) + np.diag(ones, 1) + np.diag(ones, -1) + np.zeros((n, n))

    return fun, (jnp.asarray(rng.normal(size=9), dtype),), first


@register_problem("arrow", "vector", "sparse")
def _arrow(rng: np.random.Generator, dtype: Any) -> tuple:
    """Every output needs x_i and x_0: one full column and a diagonal (rows conflict, columns hardly do)."""
    x = jnp.asarray(rng.normal(size=7), dtype)

    def first(x: Any) -> np.ndarray:
        x = np.float64(x)
        j = np.diag(2 * x * x[0])
        j[:, 0] += x**2
        return j

    return (lambda x: x**2 * x[0]), (x,), first


@register_problem("scatter", "vector", "sparse", "linear")
def _scatter(rng: np.random.Generator, dtype: Any) -> tuple:
    """Segment sums with repeated indices: y[index_i] += x_i^2."""
    index = np.array([0, 2, 2, 1, 0])

    def first(x: Any) -> np.ndarray:
        j = np.zeros((3, 5))
        j[index, np.arange(5)] = 2 * np.float64(x)
        return j

    fun = lambda x: jnp.zeros(3, x.dtype).at[jnp.asarray(index)].add(x**2)
    return fun, (jnp.asarray(rng.normal(size=5), dtype),), first


@register_problem("linear_recurrence", "vector", "scan", "triangular")
def _linear_recurrence(rng: np.random.Generator, dtype: Any) -> tuple:
    """h_t = a h_(t-1) + sin x_t by `lax.scan`: J_ts = a^(t-s) cos x_s below the diagonal."""
    a = 0.8

    def fun(x: jax.Array) -> jax.Array:
        def step(h: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
            h = a * h + jnp.sin(u)
            return h, h

        return jax.lax.scan(step, jnp.zeros((), x.dtype), x)[1]

    def first(x: Any) -> np.ndarray:
        t = np.arange(len(x))
        return np.where(t[:, None] >= t, a ** np.maximum(t[:, None] - t, 0.0) * np.cos(np.float64(x)), 0.0)

    return fun, (jnp.asarray(rng.normal(size=6), dtype),), first


def brusselator(x: Float[jax.Array, " n"]) -> Float[jax.Array, " n"]:
    """Right-hand side of the Brusselator on an N x N periodic grid, n = 2 N^2.

    u' = A + u^2 v - (B + 1) u + alpha Laplace(u),  v' = B u - u^2 v + alpha Laplace(v), grid step 1 / N
    (Hairer & Wanner, Solving Ordinary Differential Equations II, section IV.10).
    """
    side = round((x.shape[0] / 2) ** 0.5)
    u, v = x.reshape(2, side, side)

    def diffusion(w: jax.Array) -> jax.Array:
        near = jnp.roll(w, 1, 0) + jnp.roll(w, -1, 0) + jnp.roll(w, 1, 1) + jnp.roll(w, -1, 1)
        return ALPHA * side**2 * (near - 4 * w)

    reaction = u**2 * v
    du = A + reaction - (B + 1) * u + diffusion(u)
    dv = B * u - reaction + diffusion(v)
    return jnp.stack([du, dv]).reshape(-1)


def brusselator_pattern(side: int) -> tuple[Int[np.ndarray, " nnz"], Int[np.ndarray, " nnz"]]:
    """Return rows and columns of the structural nonzeros, 6 a row: 5-point stencil and the other field."""
    i, j = np.divmod(np.arange(side * side), side)
    rows, columns = [], []
    for field in (0, 1):
        here = field * side * side + i * side + j
        for a, b in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            rows.append(here)
            columns.append(field * side * side + (i + a) % side * side + (j + b) % side)
        rows.append(here)
        columns.append((1 - field) * side * side + i * side + j)
    pairs = np.unique(np.stack([np.concatenate(rows), np.concatenate(columns)]), axis=1)
    return pairs[0], pairs[1]


def brusselator_jacobian(x: Any) -> Float[np.ndarray, "n n"]:
    """Return the Brusselator's Jacobian, dense, from its formula."""
    x = np.float64(x)
    side = round((len(x) / 2) ** 0.5)
    u, v = x.reshape(2, side * side)
    eye = np.eye(side)
    ring = np.roll(eye, 1, 0) + np.roll(eye, -1, 0)
    laplace = ALPHA * side**2 * (np.kron(ring, eye) + np.kron(eye, ring) - 4 * np.eye(side * side))
    uu, uv = 2 * u * v, u**2
    top = np.hstack([laplace + np.diag(uu - (B + 1)), np.diag(uv)])
    return np.vstack([top, np.hstack([np.diag(B - uu), laplace - np.diag(uv)])])


@register_problem("brusselator", "vector", "sparse", "banded")
def _brusselator(rng: np.random.Generator, dtype: Any) -> tuple:
    return brusselator, (jnp.asarray(rng.normal(size=2 * 4**2), dtype),), brusselator_jacobian
