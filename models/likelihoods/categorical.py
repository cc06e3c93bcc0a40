"""8-bit values by 256 free probabilities."""

import jax.numpy as jnp

from models import distributions
from models.config import config
from models.likelihoods.continuous_bernoulli import exponential_rate
from models.likelihoods.shapes import Bias, Mean, Out, Scale


@config
class Categorical:
    """8-bit values k / 255 with a free probability for each of the 256 levels."""

    def channels(self) -> int:
        """Return 256 logits."""
        return distributions.LEVELS

    def initial_log_scale(self) -> None:
        """Return None: no scale."""

    def distribution(self, out: Out, log_scale: Scale = None) -> distributions.Categorical:
        """Return the levels with logits `out`."""
        return distributions.Categorical(out)

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return logits l k / 255, whose mean over the levels is about pixel_mean."""
        rate = exponential_rate(pixel_mean)[..., None]
        levels = jnp.arange(distributions.LEVELS) / (distributions.LEVELS - 1)
        return rate * levels.reshape((1,) * (rate.ndim - 1) + (-1,))
