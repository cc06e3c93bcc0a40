"""A logistic variable rounded to levels."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.distributions.event import Event, Mask, PerExample, at_least_float32, sum_event
from models.distributions.finite import softplus

LEVELS = 256  # an 8-bit pixel is k / 255, k = 0 .. 255


def log_level(x: Array, location: Array, log_scale: Array, levels: int) -> Array:
    """Return log P(level) of every value x = k / (levels - 1), nats: the mass of a logistic variable around it.

    With u, v the upper and lower edge in units of the scale, an inner level has
    sigmoid(u) - sigmoid(v) = sigmoid(u) sigmoid(-v) (1 - exp(v - u)): a sum of logarithms, no difference. The edge
    levels 0 and 1 take the tails.
    """
    half = 0.5 / (levels - 1)
    inverse = jnp.exp(-log_scale)
    below = softplus(-(x - location + half) * inverse)
    above = softplus((x - location - half) * inverse)
    lowest, highest = x < half, x > 1 - half
    width = jnp.log(-jnp.expm1(-2 * half * inverse))
    inner = jnp.where(lowest | highest, 0, width)
    return inner - jnp.where(highest, 0, below) - jnp.where(lowest, 0, above)


def clipped_mean(location: Array, log_scale: Array) -> Array:
    """Return the mean of a logistic variable clipped to [0, 1].

    It is ∫₀¹ P(X > t) dt = s (softplus(m / s) - softplus((m - 1) / s)), whose terms are nearly equal at a wide scale:
    there it is s log(1 + sigmoid((m - 1) / s) (exp(1 / s) - 1)). Mirrored so that m <= 1/2: far above 1 both are large.
    """
    high = location > 0.5
    location = jnp.where(high, 1 - location, location)
    scale = jnp.exp(log_scale)
    wide = scale > 1
    step = jnp.where(wide, 1 / scale, 1)
    top = (location - 1) / scale
    by_log = jnp.log1p(jax.nn.sigmoid(top) * jnp.expm1(step))
    low = scale * jnp.where(wide, by_log, softplus(location / scale) - softplus(top))
    return jnp.where(high, 1 - low, low)


def to_level(x: Array, levels: int) -> Array:
    """Return the nearest k / (levels - 1) in [0, 1]."""
    return jnp.round(jnp.clip(x, 0, 1) * (levels - 1)) / (levels - 1)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["location", "log_scale"], meta_fields=["levels"])
@dataclasses.dataclass(frozen=True)
class DiscretizedLogistic:
    """A logistic variable rounded to the nearest k / (levels - 1); the edge levels 0 and 1 take the tails.

    PixelCNN++ (Salimans et al. 2017, section 2.1) with one component. `location` and `log_scale` are those of
    the logistic variable, in the units of x; log scales within [-20, 10], as `bounded` makes them.
    """

    location: Any
    log_scale: Any
    levels: int = LEVELS

    @property
    def unit(self) -> str:
        """Return "bits": see `unit_of`."""
        return "bits"

    @property
    def mean(self) -> Event:
        """Return the mean of the logistic variable clipped to [0, 1].

        The mean of the rounded variable is the midpoint sum of the same integral over its cells; they differ
        by at most half a level, far less unless the scale is below a level.
        """
        return clipped_mean(self.location, self.log_scale)

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw levels k / (levels - 1)."""
        location = at_least_float32(self.location)
        noise = jax.random.logistic(key, location.shape, location.dtype)
        return to_level(location + jnp.exp(self.log_scale) * noise, self.levels).astype(self.location.dtype)

    def log_terms(self, x: Event) -> Event:
        """Return what `log_prob` sums, nats."""
        return log_level(x, self.location, self.log_scale, self.levels)

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return Σ log P(level), nats, for x = k / (levels - 1)."""
        return sum_event(self.log_terms(x), mask)

    def log_table(self) -> Float[Array, "batch *event levels"]:
        """Return log P of every level, nats."""
        levels = jnp.arange(self.levels) / (self.levels - 1)
        log_scale = jnp.broadcast_to(self.log_scale, self.location.shape)
        row = levels.reshape((1,) * self.location.ndim + (-1,))
        return log_level(row, self.location[..., None], log_scale[..., None], self.levels)
