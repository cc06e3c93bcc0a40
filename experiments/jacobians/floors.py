"""The same derivatives written by hand, as fast as JAX operations were found to go: what a figure could reach.

Each returns what the benchmark's usual way returns, from the same parameters. d is an activation's derivative
at the point, W a kernel (in, out): one layer has the Jacobian diag(d) W^T, and a network their product, made from
the latent outwards: L^T (latent, outputs) and R^T (inputs, latent), J = L R. Where such a form misses a figure, no
choice of order or seeds reaches it in XLA's operations on that machine.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Params = Any


def _values(module: Any) -> tuple[Array, ...]:
    """The arrays of a Flax module's state, by name: bias, kernel (or bias, scale)."""
    return tuple(jax.tree.leaves(module))


def _dot(a: Array, axis: int, b: Array, other: int) -> Array:
    return jax.lax.dot_general(a, b, (((axis,), (other,)), ((), ())))


def _join(left_t: Float[Array, "r m"], right_t: Float[Array, "n r"]) -> Float[Array, "m n"]:
    """J = L R; read as they are, because laying them out anew costs more."""
    return _dot(left_t, 0, right_t, 1)


def dense_factors(p: Params, x: Array) -> tuple[Array, Array]:
    """(L^T, R^T) of the dense tanh autoencoder."""
    (w1, b1), (w2, b2) = p["e"]
    (w3, b3), (w4, b4) = p["d"]
    h = jnp.tanh(x @ w1 + b1)
    z = jnp.tanh(h @ w2 + b2)
    g = jnp.tanh(z @ w3 + b3)
    y = jnp.tanh(g @ w4 + b4)
    d1, d2, d3, d4 = (1 - v * v for v in (h, z, g, y))
    return ((w3 * d3) @ w4) * d4, w1 @ (w2 * d2 * d1[:, None])


def dense(p: Params, x: Array) -> Array:
    """Jacobian of the dense autoencoder."""
    return _join(*dense_factors(p, x))


def dense_svdvals(p: Params, x: Array) -> Array:
    """Singular values from two thin QR decompositions, the smallest work that keeps their accuracy."""
    left_t, right_t = dense_factors(p, x)
    left, right = (jnp.linalg.qr(a, mode="r") for a in (left_t.T, right_t))
    values = jnp.linalg.svd(left @ right.T, compute_uv=False)
    return jnp.pad(values, (0, left_t.shape[1] - values.size))


def layernorm(p: Params, x: Array) -> Array:
    """Jacobian of the LayerNorm autoencoder; of a norm with scale g: diag(g) (I - 1 1^T / n - u u^T / n) / s."""
    (b1, w1), (b2, w2), (b3, w3), (b4, w4) = (_values(p[k]) for k in "abcd")
    (c1, g1), (c2, g2) = _values(p["n1"]), _values(p["n2"])

    def norm(a: Array) -> tuple[Array, Array]:
        scale = jax.lax.rsqrt(jnp.mean(a * a) - jnp.mean(a) ** 2 + 1e-6)
        return (a - jnp.mean(a)) * scale, scale

    u1, s1 = norm(x @ w1 + b1)
    h = jnp.tanh(u1 * g1 + c1)
    z = h @ w2 + b2
    u2, s2 = norm(z @ w3 + b3)
    g = jnp.tanh(u2 * g2 + c2)
    y = jax.nn.sigmoid(g @ w4 + b4)
    inner = w2 * ((1 - h * h) * g1 * s1)[:, None]
    inner = inner - inner.mean(0) - u1[:, None] * (u1 @ inner / u1.size)
    outer = w3 - w3.mean(1, keepdims=True) - (w3 @ u2 / u2.size)[:, None] * u2
    outer = outer * (s2 * g2 * (1 - g * g))
    return _join((outer @ w4) * (y * (1 - y)), w1 @ inner)


def residual(p: Params, x: Array) -> Array:
    """Jacobian of the residual autoencoder; of a block: I + W_b^T diag(gelu') W_a^T."""
    (b1, w1), (b2, w2), (b3, w3), (b4, w4) = (_values(p[k]) for k in ("first", "mean", "back", "last"))
    down, up = ([(*_values(b["a"]), *_values(b["b"])) for b in p[k].values()] for k in ("down", "up"))

    def through(h: Array, blocks: list) -> tuple[Array, list]:
        slopes = []
        for ba, wa, bb, wb in blocks:
            value, push = jax.linearize(jax.nn.gelu, h @ wa + ba)
            slopes.append(push(jnp.ones_like(value)))
            h = h + value @ wb + bb
        return h, slopes

    h, below = through(x @ w1 + b1, down)
    h, above = through((h @ w2 + b2) @ w3 + b3, up)
    y = jax.nn.sigmoid(h @ w4 + b4)
    inner, outer = jax.lax.optimization_barrier(w2.T), w3
    for (_, wa, _, wb), d in zip(reversed(down), reversed(below), strict=True):
        inner = inner + _dot(_dot(inner, 1, wb, 1) * d, 1, wa, 1)
    for (_, wa, _, wb), d in zip(up, above, strict=True):
        outer = outer + ((outer @ wa) * d) @ wb
    return _dot((outer @ w4) * (y * (1 - y)), 0, _dot(inner, 1, w1, 1), 0)


def one_layer(p: Params, x: Array) -> Array:
    """diag(d) W^T of one tanh layer; of a batch one such block per example.

    A batch reads W^T once per example, so it is worth laying it out anew first. XLA fuses a transpose, and the
    derivative of tanh, into the product, which then reads with a stride and repeats tanh for each entry; a barrier does
    not stop it, the boundary of a branch does.
    """
    ((w, b),) = p
    y = jnp.tanh(x @ w + b)
    d, wt = 1 - y * y, w.T
    if d.ndim == 1:
        return d[:, None] * wt
    scaled = lambda d, wt: d[:, :, None] * wt
    return jax.lax.cond(x[0, 0] < jnp.inf, scaled, lambda d, wt: scaled(d, wt) * jnp.nan, d, wt)


def half_of_batch(layers: str, chunk: int = 32) -> Callable[[Params, Array], Array]:
    """Jacobians of the dense encoder ("e") or decoder ("d") for a batch, `chunk` examples at a time: what is scaled
    stays in the cache, and the one large kernel is multiplied by many rows at once.
    """

    def jacobians(p: Params, x: Array) -> Array:
        (wa, ba), (wb, bb) = p[layers]
        h = jnp.tanh(x @ wa + ba)
        y = jnp.tanh(h @ wb + bb)
        large, small = (jax.lax.optimization_barrier(wa.T), wb.T) if layers == "e" else (wb, wa)

        def some(ds: tuple[Array, Array]) -> Array:
            d, e = ds
            if layers == "e":
                return _dot(small * d[:, None, :] * e[:, :, None], 2, large, 0)
            return (_dot(small * d[:, None, :], 2, large, 0) * e[:, None, :]).mT

        parts = [(1 - v * v).reshape(-1, chunk, v.shape[1]) for v in (h, y)]
        out = jax.lax.map(some, tuple(parts))
        return out.reshape(len(x), *out.shape[2:])

    return jacobians


def gradient_norms(weights: list, x: Array) -> Array:
    """Norms of per-example gradients of the squared error: per layer |delta|^2 (|a|^2 + 1), by one backward pass."""
    values = [x]
    for w, b in weights[:-1]:
        values.append(jnp.tanh(values[-1] @ w + b))
    delta = 2 * (values[-1] @ weights[-1][0] + weights[-1][1] - x)
    total = jnp.zeros(len(x), x.dtype)
    for k in range(len(weights) - 1, -1, -1):
        total = total + jnp.sum(delta**2, 1) * (jnp.sum(values[k] ** 2, 1) + 1)
        if k:
            delta = _dot(delta, 1, weights[k][0], 1) * (1 - values[k] ** 2)
    return jnp.sqrt(total)
