"""The von Mises-Fisher distribution on the unit sphere, by its angle to the mean direction.

The angle θ has density exp(κ (cos θ - 1)) sin^(d-2) θ / Z on [0, π]. Z, its moments and its distribution function are
Gauss-Legendre quadratures over the part of [0, π] that holds the mass: no Bessel function, any d, any κ.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from models.distributions.codes.sphere import Vector, log_area
from models.distributions.event import Mask, PerExample

NODES, WEIGHTS = (tuple(v.tolist()) for v in np.polynomial.legendre.leggauss(64))


def _log_density(theta: Array, kappa: Array, dims: int) -> Array:
    """Return κ (cos θ - 1) + (d - 2) log sin θ: the log-density without its constant."""
    half = jnp.sin(0.5 * theta)
    sine = jnp.maximum(jnp.sin(theta), jnp.finfo(theta.dtype).tiny)
    return -2 * kappa * half * half + (dims - 2) * jnp.log(sine)


def _bounds(kappa: Array, dims: int) -> tuple[Array, Array, Array]:
    """Return the mode of θ and an interval about it outside which there is nothing to see (12 deviations)."""
    free = dims - 2.0
    cosine = 2 * kappa / (free + jnp.sqrt(free * free + 4 * kappa * kappa))
    mode = jnp.arccos(jnp.clip(cosine, 0, 1))
    spread = 12 / jnp.sqrt(kappa * cosine + free / jnp.maximum(1 - cosine * cosine, 1e-12) + 0.1)
    return mode, jnp.maximum(mode - spread, 0), jnp.minimum(mode + spread, np.pi)


def _integral(low: Array, high: Array, kappa: Array, dims: int, moment: Any) -> tuple[Array, Array]:
    """Return (log scale, Σ w moment(θ) exp(log density - log scale)) over [low, high]; bounds get no gradient."""
    nodes, weights = jnp.asarray(NODES, kappa.dtype), jnp.asarray(WEIGHTS, kappa.dtype)
    half = 0.5 * (high - low)
    theta = jax.lax.stop_gradient(low[..., None] + half[..., None] * (nodes.reshape((1,) * low.ndim + (-1,)) + 1))
    log_f = _log_density(theta, kappa[..., None], dims)
    top = jax.lax.stop_gradient(jnp.max(log_f, axis=-1))
    parts = jnp.exp(log_f - top[..., None]) * moment(theta) * weights.reshape((1,) * low.ndim + (-1,))
    return top, jnp.sum(parts, axis=-1) * jax.lax.stop_gradient(half)


def _one(theta: Array) -> Array:
    return jnp.ones_like(theta)


def log_constant(kappa: Float[Array, " batch"], dims: int) -> PerExample:
    """Return log Z, Z = ∫ exp(κ (cos θ - 1)) sin^(d-2) θ dθ."""
    _, low, high = _bounds(jax.lax.stop_gradient(kappa), dims)
    top, total = _integral(low, high, kappa, dims, _one)
    return top + jnp.log(total)


def _shortfall(theta: Array) -> Array:
    """Return 1 - cos θ, without cancellation."""
    return 2 * jnp.square(jnp.sin(0.5 * theta))


def mean_shortfall(kappa: Float[Array, " batch"], dims: int) -> PerExample:
    """Return 1 - E cos θ."""
    _, low, high = _bounds(jax.lax.stop_gradient(kappa), dims)
    top, above = _integral(low, high, kappa, dims, _shortfall)
    same, total = _integral(low, high, kappa, dims, _one)
    return above / total * jnp.exp(top - same)


def _draw_angle(key: PRNGKeyArray, kappa: Float[Array, " batch"], dims: int) -> PerExample:
    """Draw θ by rejection (Wood 1994), 1 - cos θ = 2 b ε / (1 - (1 - b) ε) with ε from a symmetric beta."""
    free = dims - 1.0
    b = free / (2 * kappa + jnp.sqrt(4 * kappa * kappa + free * free))
    short = 2 * b / (1 + b)  # 1 - x of the proposal's own point

    def log_ratio(gap: Array) -> Array:
        # 1 - x + x gap over 1 - x², x = 1 - short: x itself is 1 to rounding where kappa is large
        return kappa * (short - gap) + free * (jnp.log(short + (1 - short) * gap) - jnp.log(short * (2 - short)))

    def again(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        number, gap, done = carry
        k_beta, k_accept = jax.random.split(jax.random.fold_in(key, number))
        epsilon = jax.random.beta(k_beta, 0.5 * free, 0.5 * free, kappa.shape, kappa.dtype)
        new = 2 * b * epsilon / (1 - (1 - b) * epsilon)
        accept = jnp.log(jax.random.uniform(k_accept, kappa.shape, kappa.dtype)) <= log_ratio(new)
        return number + 1, jnp.where(done, gap, new), done | accept

    start = (jnp.zeros((), jnp.int32), jnp.zeros_like(kappa), jnp.zeros(kappa.shape, bool))
    _, gap, _ = jax.lax.while_loop(lambda c: ~jnp.all(c[2]) & (c[0] < 1000), again, start)
    return 2 * jnp.arcsin(jnp.sqrt(jnp.clip(0.5 * gap, 0, 1)))


def angle(key: PRNGKeyArray, kappa: Float[Array, " batch"], dims: int) -> PerExample:
    """Draw θ; its derivative in κ is implicit: -∂F(θ)/∂κ / density (Figurnov et al. 2018)."""
    theta = jax.lax.stop_gradient(_draw_angle(key, jax.lax.stop_gradient(kappa), dims))

    @jax.custom_jvp
    def at(kappa: Array) -> Array:
        return theta

    @at.defjvp
    def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        (kappa,), (tangent,) = primals, tangents
        mode, low, high = _bounds(kappa, dims)
        mean = mean_shortfall(kappa, dims)
        # ∂ log density / ∂κ = E[1 - cos] - (1 - cos θ); from the nearer end, whose integral does not cancel
        moment = lambda t: mean[..., None] - _shortfall(t)
        left = theta < mode
        begin, end = jnp.where(left, jnp.minimum(low, theta), theta), jnp.where(left, theta, jnp.maximum(high, theta))
        top, part = _integral(begin, end, kappa, dims, moment)
        slope = part * jnp.exp(top - _log_density(theta, kappa, dims)) * jnp.where(left, -1, 1)
        return theta, slope * tangent

    return at(kappa)


class VonMisesFisher(NamedTuple):
    """Unit vectors about a direction: density exp(κ (μ·z - 1)) / (area of S^(d-2) Z) on the sphere in R^d."""

    mean: Array  # μ (batch, dims), unit vectors: the mean direction
    kappa: Array  # (batch,), concentration

    def sample(self, key: PRNGKeyArray) -> Vector:
        """Draw cos θ μ + sin θ v, v of any direction across μ."""
        k_angle, k_across = jax.random.split(key)
        theta = angle(k_angle, self.kappa, self.mean.shape[1])[:, None]
        noise = jax.random.normal(k_across, self.mean.shape, self.mean.dtype)
        across = noise - jnp.sum(noise * self.mean, axis=1, keepdims=True) * self.mean
        across = across / jnp.linalg.norm(across, axis=1, keepdims=True)
        return jnp.cos(theta) * self.mean + jnp.sin(theta) * across

    def log_prob(self, z: Vector, mask: Mask = None) -> PerExample:
        """Return the log-density on the sphere, nats; z of length one."""
        dims = self.mean.shape[1]
        gap = 0.5 * jnp.sum(jnp.square(z - self.mean), axis=1)  # 1 - μ·z
        return -self.kappa * gap - log_constant(self.kappa, dims) - log_area(dims - 1)

    def closed(self, other: Any) -> bool:
        """Whether `kl_terms(other)` has a formula: against the uniform distribution on the sphere."""
        return hasattr(other, "dims")

    def kl_terms(self, other: Any) -> Float[Array, "batch 1"]:
        """Return log area(S^(d-1)) - entropy, nats."""
        return (log_area(self.mean.shape[1]) - self.entropy())[:, None]

    def entropy(self) -> PerExample:
        """Return κ (1 - E cos θ) + log Z + log area(S^(d-2)), nats."""
        dims = self.mean.shape[1]
        return self.kappa * mean_shortfall(self.kappa, dims) + log_constant(self.kappa, dims) + log_area(dims - 1)
