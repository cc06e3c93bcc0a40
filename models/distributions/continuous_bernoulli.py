"""The family exp(l x) on [0, 1]: its density, and normaliser, mean and quantile elementwise, accurate at every l.

Written as formulas in l they lose all digits near 0 (they are differences of nearly equal numbers) and
overflow at large |l|; here the odd part of the mean is a series below |l| = 1 and a stable form above.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.distributions.event import Event, Mask, PerExample, at_least_float32, sum_event

Values = Float[Array, "*shape"]

# mean(l) - 1/2 = Σ_k B_2k l^(2k-1) / (2k)!, B the Bernoulli numbers; the tenth term is below 3e-16 at l = 1
SERIES = (
    1 / 12,
    -1 / 720,
    1 / 30240,
    -1 / 1209600,
    1 / 47900160,
    -691 / 1307674368000,
    1 / 74724249600,
    -3617 / 10670622842880000,
    43867 / 5109094217170944000,
    -174611 / 802857662698291200000,
)


def mean(logits: Values) -> Values:
    """Return 1 / (1 - exp(-l)) - 1 / l, which is 1/2 at 0; its derivative is the variance."""
    size = jnp.abs(logits)
    near = size < 1
    small = jnp.where(near, logits, 0)
    square = small * small
    series = jnp.zeros_like(small)
    for coefficient in reversed(SERIES):
        series = coefficient + square * series
    large = jnp.where(near, 1, size)
    tail = 1 / large - jnp.exp(-large) / -jnp.expm1(-large)  # the mean at -|l|, to its last digit however small
    return jnp.where(near, 0.5 + small * series, jnp.where(logits > 0, 1 - tail, tail))


@jax.custom_jvp
def log_normalizer(logits: Values) -> Values:
    """Return log ∫₀¹ exp(l x) dx = log((exp(l) - 1) / l), which is 0 at l = 0; its derivative is `mean`."""
    size = jnp.abs(logits)
    safe = jnp.where(size > 0, size, 1)
    ratio = jnp.log(-jnp.expm1(-safe) / safe)
    return jnp.maximum(logits, 0) + jnp.where(size > 0, ratio, 0)


@log_normalizer.defjvp
def _log_normalizer_jvp(primals: tuple[Values], tangents: tuple[Values]) -> tuple[Values, Values]:
    (logits,), (tangent,) = primals, tangents
    return log_normalizer(logits), mean(logits) * tangent


def quantile(uniform: Values, logits: Values) -> Values:
    """Return the x in [0, 1] with P(X <= x) = uniform, finite with its gradient at both ends.

    By symmetry l <= 0, where x = -log(1 - u (1 - exp l)) / |l|. The logarithm's argument is, without a difference,
    (1 - u) + u exp l: by log1p where it is near 1, elsewhere from the logarithms of both, as it may underflow.
    """
    flat = jnp.abs(logits) < 1e-6  # there x = u to an error below 1e-6 / 8
    size = jnp.where(flat, 1, jnp.abs(logits))
    rising = logits > 0
    below, above = jnp.where(rising, 1 - uniform, uniform), jnp.where(rising, uniform, 1 - uniform)
    inside = below * -jnp.expm1(-size)
    near = inside < 0.5
    far = jnp.logaddexp(jnp.log(above), jnp.log(jnp.where(near, 1, below)) - size)
    log_rest = jnp.where(near, jnp.log1p(-jnp.where(near, inside, 0)), far)
    falling = jnp.where(flat, below, jnp.clip(log_rest / -size, 0, 1))
    return jnp.where(rising, 1 - falling, falling)


class ContinuousBernoulli(NamedTuple):
    """Densities exp(l x) on [0, 1], normalised (Loaiza-Ganem & Cunningham 2019); l = logit of their λ."""

    logits: Array

    @property
    def mean(self) -> Event:
        """Return 1 / (1 - exp(-l)) - 1 / l: 1/2 at l = 0, and not sigmoid(l)."""
        return mean(self.logits)

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw by the inverse distribution function."""
        logits = at_least_float32(self.logits)
        uniform = jax.random.uniform(key, logits.shape, logits.dtype)
        return quantile(uniform, logits).astype(self.logits.dtype)

    def log_terms(self, x: Event) -> Event:
        """Return what `log_prob` sums, nats.

        Where l > 0 as that of 1 - x at -l: near x = 1 the two terms would be large and nearly equal.
        """
        rising = self.logits > 0
        low = jnp.where(rising, -self.logits, self.logits)
        return (x - jnp.where(rising, 1, 0)) * self.logits - log_normalizer(low)

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return Σ x l - log((exp(l) - 1) / l), nats; gradient x - mean, accurate at every l."""
        return sum_event(self.log_terms(x), mask)

    def kl(self, other: "ContinuousBernoulli") -> PerExample:
        """Return Σ mean (l - l') - A(l) + A(l') with A the log normaliser, nats, mirrored so that l <= 0."""
        sign = jnp.where(self.logits > 0, -1, 1).astype(self.logits.dtype)
        low, theirs = sign * self.logits, sign * other.logits
        return sum_event(mean(low) * (low - theirs) - log_normalizer(low) + log_normalizer(theirs))

    def entropy(self) -> PerExample:
        """Return the differential entropy Σ A(l) - mean l, nats (at most 0), from -|l|: no large terms cancel."""
        low = -jnp.abs(self.logits)
        return sum_event(log_normalizer(low) - mean(low) * low)
