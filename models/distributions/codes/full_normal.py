"""Normals whose dimensions depend on each other, over vectors (batch, dims)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.distributions.event import Mask, PerExample
from models.distributions.normal import LOG_2PI, Normal

Vector = Float[Array, "batch dims"]


class FullNormal(NamedTuple):
    """N(mean, L Lᵀ), L lower triangular (batch, dims, dims) with a positive diagonal."""

    mean: Array
    tril: Array

    def sample(self, key: PRNGKeyArray) -> Vector:
        """Draw mean + L ε, ε ~ N(0, I)."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.einsum("bij,bj->bi", self.tril, noise)

    def log_prob(self, x: Vector, mask: Mask = None) -> PerExample:
        """Return the log-density, nats; a mask is refused (ValueError): dimensions are no terms of a sum here."""
        _no_mask(mask)
        tril = jnp.broadcast_to(self.tril, (x.shape[0], *self.tril.shape[1:]))
        gap = jnp.broadcast_to(x - self.mean, x.shape)[..., None]
        e = jax.lax.linalg.triangular_solve(tril, gap, left_side=True, lower=True)[..., 0]
        return -0.5 * jnp.sum(e * e + LOG_2PI, 1) - self.half_log_det()

    def half_log_det(self) -> PerExample:
        """Return log |det L|."""
        return jnp.sum(jnp.log(jnp.diagonal(self.tril, axis1=1, axis2=2)), 1)

    def closed(self, other: object) -> bool:
        """Whether `kl_terms(other)` has a formula."""
        return isinstance(other, Normal)

    def kl_terms(self, other: Normal) -> Float[Array, "batch 1"]:
        """Return KL(self || other), nats, one number per example: it does not split over dimensions.

        Σ_j (Σ_k L_jk² + gap_j²) / (2 s_j²) - 1/2 + log s_j, minus log |det L|.
        """
        inverse = jnp.exp(-other.log_std)
        rows = jnp.sum(jnp.square(self.tril * inverse[..., None]), 2)
        gap = (self.mean - other.mean) * inverse
        return (jnp.sum(0.5 * (rows + gap * gap - 1) + other.log_std, 1) - self.half_log_det())[:, None]

    def entropy(self) -> PerExample:
        """Return log |det L| + dims (1 + log 2π) / 2, nats."""
        return self.half_log_det() + 0.5 * self.mean.shape[1] * (1 + LOG_2PI)


class LowRank(NamedTuple):
    """N(mean, diag(std²) + F Fᵀ) with few columns in F (batch, dims, rank): O(dims rank²) throughout."""

    mean: Array
    log_std: Array
    factor: Array

    def sample(self, key: PRNGKeyArray) -> Vector:
        """Draw mean + std ε + F δ, ε and δ standard normal."""
        k_own, k_shared = jax.random.split(key)
        own = jax.random.normal(k_own, self.mean.shape, self.mean.dtype)
        batch, _, rank = self.factor.shape
        shared = jax.random.normal(k_shared, (batch, rank), self.mean.dtype)
        return self.mean + jnp.exp(self.log_std) * own + jnp.einsum("bir,br->bi", self.factor, shared)

    def _capacitance(self) -> tuple[Array, Array]:
        """Return W = diag(1 / std) F and the Cholesky factor of I + Wᵀ W (Woodbury)."""
        scaled = self.factor * jnp.exp(-self.log_std)[..., None]
        inner = jnp.eye(scaled.shape[2], dtype=scaled.dtype)[None] + jnp.einsum("bir,bis->brs", scaled, scaled)
        return scaled, jnp.linalg.cholesky(inner)

    def log_prob(self, x: Vector, mask: Mask = None) -> PerExample:
        """Return the log-density, nats; a mask is refused (ValueError).

        With W = diag(1 / std) F and e in units of std, eᵀ (I + W Wᵀ)⁻¹ e = |e - W u|² + |u|², u the mean of the shared
        noise given x: a sum of squares, where Woodbury's |e|² - eᵀ W u cancels as soon as F is large beside std.
        """
        _no_mask(mask)
        scaled, tril = self._capacitance()
        e = (x - self.mean) * jnp.exp(-self.log_std)
        inner = jnp.broadcast_to(jnp.einsum("bir,bi->br", scaled, e), (x.shape[0], scaled.shape[2]))
        tril = jnp.broadcast_to(tril, (x.shape[0], *tril.shape[1:]))
        v = jax.lax.linalg.triangular_solve(tril, inner[..., None], left_side=True, lower=True)
        u = jax.lax.linalg.triangular_solve(tril, v, left_side=True, lower=True, transpose_a=True)[..., 0]
        rest = e - jnp.einsum("bir,br->bi", jnp.broadcast_to(scaled, (x.shape[0], *scaled.shape[1:])), u)
        return -0.5 * (jnp.sum(rest * rest + LOG_2PI, 1) + jnp.sum(u * u, 1)) - self.half_log_det()

    def half_log_det(self) -> PerExample:
        """Return half the log-determinant of the covariance."""
        tril = self._capacitance()[1]
        return jnp.sum(self.log_std, 1) + jnp.sum(jnp.log(jnp.diagonal(tril, axis1=1, axis2=2)), 1)

    def closed(self, other: object) -> bool:
        """Whether `kl_terms(other)` has a formula."""
        return isinstance(other, Normal)

    def kl_terms(self, other: Normal) -> Float[Array, "batch 1"]:
        """Return KL(self || other), nats, one number per example: it does not split over dimensions."""
        variance = jnp.exp(2 * self.log_std) + jnp.sum(jnp.square(self.factor), 2)
        gap, inverse = self.mean - other.mean, jnp.exp(-2 * other.log_std)
        inside = 0.5 * ((variance + gap * gap) * inverse - 1) + other.log_std
        return (jnp.sum(inside, 1) - self.half_log_det())[:, None]

    def entropy(self) -> PerExample:
        """Return half the log-determinant + dims (1 + log 2π) / 2, nats."""
        return self.half_log_det() + 0.5 * self.mean.shape[1] * (1 + LOG_2PI)


def _no_mask(mask: Mask) -> None:
    if mask is not None:
        raise ValueError("this density does not split over dimensions: it takes no mask")
