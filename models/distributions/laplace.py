"""Independent Laplace variables."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from models.distributions.event import Event, Mask, PerExample, sum_event


class Laplace(NamedTuple):
    """Independent Laplace variables of density exp(-|x - mean| / b) / (2 b), b = exp(log_scale)."""

    mean: Array
    log_scale: Array

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw mean + b ε with ε ~ Laplace(0, 1)."""
        noise = jax.random.laplace(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_scale) * noise

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return Σ -|x - mean| / b - log 2b, nats."""
        distance = jnp.abs(x - self.mean) * jnp.exp(-self.log_scale)
        return sum_event(-distance - (self.log_scale + jnp.log(2.0)), mask)

    def kl(self, other: "Laplace") -> PerExample:
        """Return Σ log(b'/b) + (|Δ| + b exp(-|Δ| / b)) / b' - 1 with Δ the difference of means, nats.

        As (e^r - 1 - r) + e^r (t + e^-t - 1), r = log(b/b'), t = |Δ|/b: near equality both brackets are small.
        """
        log_ratio = self.log_scale - other.log_scale
        gap = jnp.abs(self.mean - other.mean) * jnp.exp(-self.log_scale)
        moved = jnp.exp(log_ratio) * (gap + jnp.expm1(-gap))
        return sum_event(jnp.expm1(log_ratio) - log_ratio + moved)

    def entropy(self) -> PerExample:
        """Return Σ 1 + log 2b, nats."""
        return sum_event(jnp.broadcast_to(self.log_scale + 1 + jnp.log(2.0), self.mean.shape))
