"""Counts that share a total, such as the words of a text or the clicks of a person."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, PRNGKeyArray

from models.batch import Batch, Sizes
from models.config import config
from models.distributions import LOG_2PI
from models.distributions.event import Event, Mask, PerExample, at_least_float32, sum_event
from models.likelihoods.shapes import Bias, Mean, Out

Rows = Float[Array, "batch values"]
MOMENTUM = 0.9  # of the running total


def stirling(x: Array) -> Array:
    """Return log x! - (x log x - x + log(2 pi x) / 2), nats, for x > 0: what is left of Stirling's formula."""
    large = jnp.where(x > 8, x, 8)
    square = 1 / (large * large)
    series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))) / large
    small = jnp.where(x > 8, 8, x)
    return jnp.where(
        x > 8, series, gammaln(small + 1) - small * jnp.log(small) + small - 0.5 * (jnp.log(small) + LOG_2PI)
    )


def deviance(x: Array, log_mean: Array) -> Array:
    """Return x log(x / m) - x + m >= 0, nats, for x >= 0 and m = exp(log_mean) (Loader 2000), to its own digits."""
    mean = jnp.exp(log_mean)
    positive = jnp.where(x > 0, x, 1)
    gap = x - mean
    near = jnp.abs(gap) < 0.1 * (x + mean)
    ratio = jnp.where(near, gap / jnp.where(near, mean, 1), 0)
    # near m: m ((1 + r) log(1 + r) - r), r = x / m - 1, by its series in v = r / (2 + r): 2 atanh(v) = log(1 + r)
    v = ratio / (2 + ratio)
    square = v * v
    series = jnp.zeros_like(v)
    for k in range(9, 0, -1):
        series = (series + 1 / (2 * k + 1)) * square
    close = gap * v + 2 * x * v * series
    far = x * (jnp.log(positive) - log_mean) - gap
    return jnp.where(near, close, far)


def plain_mass(x: Rows, log_p: Rows) -> PerExample:
    """Return log N! + Σ x log p - log x!, term by term."""
    return sum_event(x * log_p - gammaln(x + 1)) + gammaln(sum_event(x) + 1)


@jax.custom_jvp
def log_mass(x: Rows, log_p: Rows) -> PerExample:
    """Return log N! + Σ x log p - log x!, N = Σ x, nats.

    Its terms grow as N log N, the sum as log N. With Stirling's formula taken out of every factorial it is
    log(2 pi N) / 2 + δ(N) - Σ_{x > 0} (log(2 pi x) / 2 + δ(x)) - Σ deviance(x, N p): nothing is left to cancel.
    """
    total = sum_event(x)
    some = jnp.where(total > 0, total, 1)
    log_mean = log_p + jnp.log(some)[:, None]
    positive = jnp.where(x > 0, x, 1)
    each = jnp.where(x > 0, 0.5 * (jnp.log(positive) + LOG_2PI) + stirling(positive), 0) + deviance(x, log_mean)
    return jnp.where(total > 0, 0.5 * (jnp.log(some) + LOG_2PI) + stirling(some) - sum_event(each), 0)


@log_mass.defjvp
def _log_mass_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[PerExample, PerExample]:
    # the plain formula's: x in log p, and nothing that cancels
    return log_mass(*primals), jax.jvp(plain_mass, primals, tangents)[1]


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
        return log_mass(x.reshape(len(x), -1), log_p.reshape(len(x), -1))  # XLA's CPU backend sums one axis far faster


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
