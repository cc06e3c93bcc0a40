"""Geodesics: shortest curves between codes, many at once, as polylines of least energy."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from models.metrics.travel.surface import Surface, checked, finite


class Geodesics(NamedTuple):
    """Curves between pairs of codes, and what they measure: NumPy, a row per pair.

    curve (n, points, latent). energy: ½ (points - 1) Σ |Δf|², at least length² / 2, equal at even speed. length:
    Σ |Δf| of the chords, units of the surface. straight_energy, straight_length: of the straight line of codes.
    change: the last step's relative change of energy; far from 0: more steps.
    """

    curve: Float[np.ndarray, "n points latent"]
    energy: Float[np.ndarray, " n"]
    length: Float[np.ndarray, " n"]
    straight_energy: Float[np.ndarray, " n"]
    straight_length: Float[np.ndarray, " n"]
    change: Float[np.ndarray, " n"]


def geodesics(
    surface: Surface, a: Any, b: Any, *, points: int = 32, steps: int = 100, chunk: int = 64, start: Any = None
) -> Geodesics:
    """Return the curves of least energy from codes a to codes b (n, latent), found from the straight line (or `start`).

    Levenberg's damped Gauss-Newton steps on all inner points at once: the residuals are the chords f(z_{i+1}) - f(z_i),
    so the matrix needs only J_iᵀJ_i and J_iᵀJ_{i+1}, latent x latent each, and a step costs latent + 1 forward
    passes. A step that raises a curve's energy is not taken and damped further; how many steps a trained decoder takes:
    `python -m experiments geodesics`. The result is a local minimum: the shortest curve where the surface is not bent
    too far, else one of several.

    One compiled call for all pairs, `chunk` of them at a time (memory: chunk * points whole Jacobians). Where the
    metric is singular the damping holds a point in place along the directions that cost nothing. Raises ValueError for
    codes or surfaces that are not finite, or fewer than 3 points.
    """
    a, b = checked(surface, a, b)
    if points < 3 or steps < 1 or chunk < 1:
        raise ValueError(f"points must be at least 3, steps and chunk at least 1; got {points}, {steps}, {chunk}")
    line = straight(a, b, points)
    first = line if start is None else jnp.asarray(start, a.dtype)
    if first.shape != line.shape:
        raise ValueError(f"start must be curves of shape {line.shape}, got {first.shape}")
    first = first.at[:, 0].set(a).at[:, -1].set(b)
    n, chunk = len(a), min(chunk, len(a))
    index = np.arange(-(-n // chunk) * chunk) % n
    with jax.default_matmul_precision("highest"):
        found = _solve(surface, first[index], chunk, steps)
        ends = [*found, *_measured(surface, line)]
    curve, energy, change, length, straight_energy, straight_length = (np.asarray(v[:n]) for v in ends)
    why = "the surface is not finite on the way; move the ends, or give another start"
    finite("geodesics", np.stack([energy, straight_energy], 1), why)
    return Geodesics(curve, energy, length, straight_energy, straight_length, change)


def straight(a: Array, b: Array, points: int) -> Float[Array, "n points latent"]:
    """Return straight lines of codes, both ends included."""
    t = jnp.linspace(0, 1, points, dtype=a.dtype)[None, :, None]
    return (1 - t) * a[:, None] + t * b[:, None]


def curve_energy(surface: Surface, curve: Float[Array, "n points latent"]) -> Float[Array, " n"]:
    """Return ½ (points - 1) Σ |f(z_{i+1}) - f(z_i)|² of each curve, squared units of the surface."""
    return 0.5 * (curve.shape[1] - 1) * jnp.sum(jnp.square(_chords(surface, curve)), axis=(1, 2))


def curve_length(surface: Surface, curve: Float[Array, "n points latent"]) -> Float[Array, " n"]:
    """Return Σ |f(z_{i+1}) - f(z_i)| of each curve, units of the surface."""
    return jnp.sum(jnp.linalg.norm(_chords(surface, curve), axis=2), axis=1)


def _chords(surface: Surface, curve: Array) -> Array:
    n, points, latent = curve.shape
    return jnp.diff(surface(curve.reshape(-1, latent)).reshape(n, points, -1), axis=1)


@jax.jit
def _measured(surface: Surface, curve: Array) -> tuple[Array, Array]:
    one = lambda c: (curve_energy(surface, c[None])[0], curve_length(surface, c[None])[0])
    return jax.lax.map(one, curve, batch_size=64)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _solve(surface: Surface, start: Array, chunk: int, steps: int) -> tuple[Array, ...]:
    """Return (curve, energy, relative change of the last step, length) of every curve, a chunk after another."""

    def of_chunk(curve: Array) -> tuple[Array, ...]:
        damping = jnp.full(len(curve), 1e-3, curve.dtype)
        energy = curve_energy(surface, curve)
        state = (curve, energy, damping, jnp.zeros_like(energy))
        curve, energy, _, change = jax.lax.fori_loop(0, steps, lambda _, s: _step(surface, *s), state)
        return curve, energy, change, curve_length(surface, curve)

    out = jax.lax.map(of_chunk, start.reshape(-1, chunk, *start.shape[1:]))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), out)


def _step(surface: Surface, curve: Array, energy: Array, damping: Array, change: Array) -> tuple[Array, ...]:
    """Return the state after one damped Gauss-Newton step of every curve of a chunk."""
    n, points, latent = curve.shape
    f, j = surface.jacobians(curve.reshape(-1, latent))
    f, j = f.reshape(n, points, -1), j.reshape(n, points, -1, latent)
    chords, inner = jnp.diff(f, axis=1), j[:, 1:-1]
    slope = jnp.einsum("npmi,npm->npi", inner, chords[:, :-1] - chords[:, 1:])
    own = 2 * jnp.einsum("npmi,npmk->npik", inner, inner)
    beside = -jnp.einsum("npmi,npmk->npik", inner[:, :-1], inner[:, 1:])
    k = points - 2
    i = jnp.arange(k)
    h = jnp.zeros((n, k, latent, k, latent), curve.dtype)
    h = h.at[:, i, :, i].set(jnp.moveaxis(own, 1, 0))
    h = h.at[:, i[:-1], :, i[1:]].set(jnp.moveaxis(beside, 1, 0))
    h = h.at[:, i[1:], :, i[:-1]].set(jnp.moveaxis(jnp.swapaxes(beside, 2, 3), 1, 0))
    h = h.reshape(n, k * latent, k * latent)
    size = jnp.trace(h, axis1=1, axis2=2) / (k * latent)
    size = jnp.where(size > 0, size, 1)  # a surface of a single point: every curve is as good as another
    h = h + (damping * size)[:, None, None] * jnp.eye(k * latent, dtype=h.dtype)[None]
    move = jnp.linalg.solve(h, slope.reshape(n, -1, 1)).reshape(n, k, latent)
    tried = curve.at[:, 1:-1].add(-move)
    value = curve_energy(surface, tried)
    better = value <= energy  # false for nan: such a step is not taken
    gained = jnp.where(better & (energy > 0), (energy - value) / jnp.where(energy > 0, energy, 1), 0)
    return (
        jnp.where(better[:, None, None], tried, curve),
        jnp.where(better, value, energy),
        jnp.clip(damping * jnp.where(better, 0.3, 8.0), 1e-8, 1e8),
        gained,
    )
