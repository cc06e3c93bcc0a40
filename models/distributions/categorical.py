"""Levels with free probabilities."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from models.distributions.event import Event, Mask, PerExample, sum_event
from models.distributions.logistic import LEVELS


class Categorical(NamedTuple):
    """Independent levels k / 255 with P(k) = softmax(logits)_k; logits are (batch, *event, 256)."""

    logits: Array

    @property
    def mean(self) -> Event:
        """Return Σ_k k / 255 P(k)."""
        levels = jnp.arange(LEVELS, dtype=self.logits.dtype) / (LEVELS - 1)
        return jax.nn.softmax(self.logits) @ levels

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw levels k / 255."""
        return jax.random.categorical(key, self.logits).astype(self.logits.dtype) / (LEVELS - 1)

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return Σ log P(k) in nats for x = k / 255 (the nearest level)."""
        level = jnp.clip(jnp.round(x * (LEVELS - 1)), 0, LEVELS - 1).astype(jnp.int32)
        chosen = jnp.take_along_axis(self.logits, level[..., None], axis=-1)[..., 0]
        return sum_event(chosen - jax.nn.logsumexp(self.logits, axis=-1), mask)

    def kl(self, other: "Categorical") -> PerExample:
        """Return Σ Σ_k P(k) (log P(k) - log P'(k)), nats."""
        log_p, log_q = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(other.logits)
        return sum_event(jnp.exp(log_p) * (log_p - log_q))

    def entropy(self) -> PerExample:
        """Return -Σ Σ_k P(k) log P(k), nats."""
        log_p = jax.nn.log_softmax(self.logits)
        return sum_event(-jnp.exp(log_p) * log_p)
