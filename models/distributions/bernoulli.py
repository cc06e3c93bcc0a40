"""Independent bits."""

from typing import NamedTuple

import jax
from jaxtyping import Array, PRNGKeyArray

from models.distributions.event import Event, Mask, PerExample, sum_event
from models.distributions.finite import softplus


class Bernoulli(NamedTuple):
    """Independent bits with P(1) = sigmoid(logits); for x in [0, 1] log_prob is minus the cross-entropy."""

    logits: Array

    @property
    def mean(self) -> Event:
        """Return sigmoid(logits)."""
        return jax.nn.sigmoid(self.logits)

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw zeros and ones."""
        return jax.random.bernoulli(key, self.mean).astype(self.logits.dtype)

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return Σ x l - log(1 + exp l), nats; finite with its gradient x - sigmoid(l) at any finite l."""
        return sum_event(x * self.logits - softplus(self.logits), mask)

    def kl(self, other: "Bernoulli") -> PerExample:
        """Return Σ p (l - l') - log(1 + exp l) + log(1 + exp l'), nats."""
        gap = self.mean * (self.logits - other.logits)
        return sum_event(gap - softplus(self.logits) + softplus(other.logits))

    def entropy(self) -> PerExample:
        """Return Σ log(1 + exp l) - p l, nats."""
        return sum_event(softplus(self.logits) - self.mean * self.logits)
