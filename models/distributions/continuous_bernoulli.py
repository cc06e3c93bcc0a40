"""The family exp(l x) on [0, 1]: its density, and normaliser, mean and quantile elementwise, accurate at every l.

Written as formulas in l they lose all digits near 0 (they are differences of nearly equal numbers) and
overflow at large |l|; here the odd part of the mean is a series below |l| = 1 and a stable form above.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.distributions.event import Event, Mask, PerExample, sum_event

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
    tail = 0.5 - 1 / large + jnp.exp(-large) / -jnp.expm1(-large)
    return 0.5 + jnp.where(near, small * series, jnp.sign(logits) * tail)


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
    """Return the x with P(X <= x) = uniform, by log(1 + u (exp(l) - 1)) / l with l <= 0 and symmetry."""
    flat = jnp.abs(logits) < 1e-6  # there x = u to an error below 1e-6 / 8
    size = jnp.where(flat, 1, jnp.abs(logits))
    rising = logits > 0
    below = jnp.where(rising, 1 - uniform, uniform)
    falling = jnp.where(flat, below, jnp.log1p(below * jnp.expm1(-size)) / -size)
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
        uniform = jax.random.uniform(key, self.logits.shape, self.logits.dtype)
        return quantile(uniform, self.logits)

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return Σ x l - log((exp(l) - 1) / l), nats; gradient x - mean, accurate at every l."""
        return sum_event(x * self.logits - log_normalizer(self.logits), mask)

    def kl(self, other: "ContinuousBernoulli") -> PerExample:
        """Return Σ mean (l - l') - A(l) + A(l') with A the log normaliser, nats."""
        gap = self.mean * (self.logits - other.logits)
        return sum_event(gap - log_normalizer(self.logits) + log_normalizer(other.logits))

    def entropy(self) -> PerExample:
        """Return the differential entropy Σ A(l) - mean l, nats (at most 0)."""
        return sum_event(log_normalizer(self.logits) - self.mean * self.logits)
