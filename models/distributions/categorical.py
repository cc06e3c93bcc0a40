"""Levels with free probabilities."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from models.distributions.event import Event, Mask, PerExample, at_least_float32, sum_event


def log_chosen(logits: Array, index: Array) -> Array:
    """Return log softmax(logits)[index] along the last axis; accurate also where all logits share a large offset."""
    shifted = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    chosen = jnp.take_along_axis(shifted, index[..., None], axis=-1)[..., 0]
    return chosen - jnp.log(jnp.sum(jnp.exp(at_least_float32(shifted)), axis=-1))


class Categorical(NamedTuple):
    """Independent levels k / (n - 1), k = 0 .. n - 1, with P(k) = softmax(logits)_k; logits are (batch, *event, n)."""

    logits: Array

    @property
    def unit(self) -> str:
        """Return "bits": see `unit_of`."""
        return "bits"

    @property
    def levels(self) -> int:
        """Number of levels n."""
        return self.logits.shape[-1]

    @property
    def mean(self) -> Event:
        """Return Σ_k k / (n - 1) P(k)."""
        levels = jnp.arange(self.levels, dtype=self.logits.dtype) / (self.levels - 1)
        return jax.nn.softmax(self.logits) @ levels

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw levels k / (n - 1)."""
        drawn = jax.random.categorical(key, at_least_float32(self.logits))
        return drawn.astype(self.logits.dtype) / (self.levels - 1)

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return Σ log P(k) in nats for x = k / (n - 1) (the nearest level)."""
        last = self.levels - 1
        level = jnp.clip(jnp.round(x * last), 0, last).astype(jnp.int32)
        return sum_event(log_chosen(self.logits, level), mask)

    def log_table(self) -> Array:
        """Return log P of every level, nats: (batch, *event, n)."""
        return jax.nn.log_softmax(at_least_float32(self.logits))

    def kl(self, other: "Categorical") -> PerExample:
        """Return Σ Σ_k P(k) (log P(k) - log P'(k)), nats."""
        log_p, log_q = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(other.logits)
        return sum_event(jnp.exp(log_p) * (log_p - log_q))

    def entropy(self) -> PerExample:
        """Return -Σ Σ_k P(k) log P(k), nats."""
        log_p = jax.nn.log_softmax(self.logits)
        return sum_event(-jnp.exp(log_p) * log_p)
