"""Counts that share a total, such as the words of a text or the clicks of a person."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.scipy.special import gammaln
from jaxtyping import Array, PRNGKeyArray

from models.batch import Batch, Sizes
from models.config import config
from models.distributions.event import Event, Mask, PerExample, at_least_float32, sum_event
from models.likelihoods.shapes import Bias, Mean, Out

MOMENTUM = 0.9  # of the running total


class Counts(NamedTuple):
    """Counts (batch, *event) of `total` independent draws with P(i) = softmax(logits)_i over the whole event.

    log_prob is that of x given its own total Σ x; `total`, one number, is what `mean` and `sample` use.
    """

    logits: Array
    total: Array

    @property
    def unit(self) -> str:
        """Return "bits": see `unit_of`."""
        return "bits"

    def probabilities(self) -> Event:
        """Return softmax(logits) over the event."""
        return jax.nn.softmax(self.logits, axis=tuple(range(1, self.logits.ndim)))

    @property
    def mean(self) -> Event:
        """Return total softmax(logits)."""
        return self.total * self.probabilities()

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw counts that add up to the total, rounded."""
        p = self.probabilities().reshape(len(self.logits), -1)
        total = jnp.full((len(p),), jnp.round(self.total), p.dtype)
        return jax.random.multinomial(key, total, p).reshape(self.logits.shape)

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return log N! + Σ x log p - log x!, N = Σ x, nats; over what was observed, p given that.

        Mult-VAE (Liang et al. 2018) leaves out the coefficient, which has no gradient; here probabilities sum to 1.
        """
        logits = at_least_float32(self.logits)
        if mask is not None:
            x, logits = jnp.where(mask, x, 0), jnp.where(mask, logits, jnp.finfo(logits.dtype).min / 2)
        log_p = logits - jax.nn.logsumexp(logits, axis=tuple(range(1, x.ndim)), keepdims=True)
        return sum_event(x * log_p - gammaln(x + 1), mask) + gammaln(sum_event(x, mask) + 1)


class RunningTotal(nnx.Module):
    """Counts whose total, for means and draws, is the running mean of the batches' totals."""

    def __init__(self) -> None:
        self.total = nnx.BatchStat(jnp.ones(()))

    def __call__(self, out: Out, key: Any) -> Counts:
        """Return the counts with logits `out`."""
        return Counts(out[..., 0], self.total[...])

    def track(self, p: Counts, batch: Batch) -> None:
        """Move the running total towards that of this batch."""
        new = jnp.mean(sum_event(batch.x, batch.mask)).astype(self.total[...].dtype)
        self.total[...] = MOMENTUM * self.total[...] + (1 - MOMENTUM) * jax.lax.stop_gradient(new)


@config
class MultinomialLikelihood:
    """Counts of an example given their total (Mult-VAE, Liang et al. 2018); the decoder gives logits."""

    support = "counts"

    def channels(self) -> int:
        """Return 1: the logit."""
        return 1

    def build(self, sizes: Sizes, rngs: Any) -> RunningTotal:
        """Return the module."""
        return RunningTotal()

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return the log of each value's share of the mean counts, at least a thousandth of an equal share."""
        share = pixel_mean / jnp.maximum(jnp.sum(pixel_mean), 1e-12)
        return jnp.log(jnp.maximum(share, 1e-3 / math.prod(pixel_mean.shape)))[..., None]
