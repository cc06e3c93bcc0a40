"""Independent bits."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.distributions.event import Event, Mask, PerExample, at_least_float32, sum_event
from models.distributions.finite import softplus


class Bernoulli(NamedTuple):
    """Independent bits with P(1) = sigmoid(logits); for x in [0, 1] log_prob is minus the cross-entropy."""

    logits: Array

    @property
    def unit(self) -> str:
        """Return "bits": see `unit_of`."""
        return "bits"

    @property
    def mean(self) -> Event:
        """Return sigmoid(logits)."""
        return jax.nn.sigmoid(self.logits)

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw zeros and ones."""
        return jax.random.bernoulli(key, self.mean).astype(self.logits.dtype)

    def log_terms(self, x: Event) -> Event:
        """Return what `log_prob` sums, nats."""
        return x * self.logits - softplus(self.logits)

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return Σ x l - log(1 + exp l), nats; finite with its gradient x - sigmoid(l) at any finite l."""
        return sum_event(self.log_terms(x), mask)

    def log_prob_of_draws(self, x: Event, mask: Mask = None) -> Float[Array, " rows"]:
        """Return log_prob of x (batch, *event) under logits (draws * batch, *event), all draws one after the other.

        Σ x l - max(l, 0) - log Π (1 + exp -|l|), the product over up to eight values, which is at most 256: one
        logarithm for all of them. Sums of as many are made first, side by side, as a CPU adds them.
        """
        n, size = x.shape[0], math.prod(x.shape[1:])
        width = max(d for d in range(1, 9) if size % d == 0)
        cut = lambda a: [part[:, :, 0] for part in jnp.split(a.reshape(-1, n, width, size // width), width, axis=2)]
        hidden = [None] * width if mask is None else [~part for part in cut(mask)]
        terms: Array | float = 0.0
        product: Array | float = 1.0
        for one, logit, out in zip(cut(at_least_float32(x)), cut(at_least_float32(self.logits)), hidden, strict=True):
            term, factor = one * logit - jnp.maximum(logit, 0), 1 + jnp.exp(-jnp.abs(logit))
            terms += term if out is None else jnp.where(out, 0, term)
            product *= factor if out is None else jnp.where(out, 1, factor)
        # made before they are summed: XLA's CPU backend else makes them one at a time inside the sum
        return jnp.sum(jax.lax.optimization_barrier(terms - jnp.log(product)), axis=2).reshape(-1)

    def log_table(self) -> Float[Array, "batch *event levels"]:
        """Return log P of 0 and of 1, nats."""
        return jnp.stack([-softplus(self.logits), -softplus(-self.logits)], axis=-1)

    def kl(self, other: "Bernoulli") -> PerExample:
        """Return Σ p (l - l') - log(1 + exp l) + log(1 + exp l'), nats.

        With 0 and 1 exchanged where l > 0, so that p <= 1/2: no difference of two large numbers.
        """
        sign = jnp.where(self.logits > 0, -1, 1).astype(self.logits.dtype)
        low, theirs = sign * self.logits, sign * other.logits
        return sum_event(jax.nn.sigmoid(low) * (low - theirs) - softplus(low) + softplus(theirs))

    def entropy(self) -> PerExample:
        """Return Σ log(1 + exp l) - p l, nats, from -|l|: a sum of positive terms."""
        size = jnp.abs(self.logits)
        return sum_event(softplus(-size) + jax.nn.sigmoid(-size) * size)


class CrossEntropy(Bernoulli):
    """Bits with fractions as targets, such as grey values: log_prob is no likelihood, for no draw is a fraction."""

    @property
    def unit(self) -> str:
        """Return "cross_entropy": see `unit_of`."""
        return "cross_entropy"
