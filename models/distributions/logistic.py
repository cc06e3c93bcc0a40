"""A logistic variable rounded to levels."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from models.distributions.event import Event, Mask, PerExample, sum_event
from models.distributions.finite import softplus

LEVELS = 256  # an 8-bit pixel is k / 255, k = 0 .. 255


class DiscretizedLogistic(NamedTuple):
    """A logistic variable rounded to the nearest k / 255; the edge levels 0 and 1 take the tails.

    PixelCNN++ (Salimans et al. 2017, section 2.1) with one component. `location` and `log_scale` are those of
    the logistic variable, in the units of x.
    """

    location: Array
    log_scale: Array

    @property
    def mean(self) -> Event:
        """Return the mean of the logistic variable clipped to [0, 1].

        It is ∫₀¹ P(X > t) dt = s (softplus(m / s) - softplus((m - 1) / s)).
        The mean of the rounded variable is the midpoint sum of the same integral over 255 cells; they differ
        by at most half a level (1/510), far less unless the scale is below a level.
        """
        scale = jnp.exp(self.log_scale)
        return scale * (softplus(self.location / scale) - softplus((self.location - 1) / scale))

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw levels k / 255."""
        noise = jax.random.logistic(key, self.location.shape, self.location.dtype)
        x = self.location + jnp.exp(self.log_scale) * noise
        return jnp.round(jnp.clip(x, 0, 1) * (LEVELS - 1)) / (LEVELS - 1)

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return Σ log P(level), nats, for x = k / 255.

        With u, v the upper and lower edge in units of the scale, an inner level has
        sigmoid(u) - sigmoid(v) = sigmoid(u) sigmoid(-v) (1 - exp(v - u)): a sum of logarithms, no difference.
        """
        half = 0.5 / (LEVELS - 1)
        inverse = jnp.exp(-self.log_scale)
        below = softplus(-(x - self.location + half) * inverse)
        above = softplus((x - self.location - half) * inverse)
        lowest, highest = x < half, x > 1 - half
        width = jnp.log(-jnp.expm1(-2 * half * inverse))
        inner = jnp.where(lowest | highest, 0, width)
        return sum_event(inner - jnp.where(highest, 0, below) - jnp.where(lowest, 0, above), mask)
