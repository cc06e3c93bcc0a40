"""8-bit values by 256 free probabilities."""

from typing import Any

import jax.numpy as jnp

from models import distributions
from models.batch import Sizes
from models.config import config
from models.likelihoods.continuous_bernoulli import exponential_rate
from models.likelihoods.shapes import Bias, Mean, Out, Scale
from models.networks.held import Held


@config
class Categorical:
    """8-bit values k / 255 with a free probability for each of the 256 levels."""

    def channels(self) -> int:
        """Return 256 logits."""
        return distributions.LEVELS

    def initial_log_scale(self) -> None:
        """Return None: no scale."""

    def build(self, sizes: Sizes, rngs: Any) -> Any:
        """Return the module."""
        return Held(self)

    def __call__(self, out: Out, key: Any) -> distributions.Categorical:
        """Return `distribution(out)`."""
        return self.distribution(out)

    def distribution(self, out: Out, log_scale: Scale = None) -> distributions.Categorical:
        """Return the levels with logits `out`."""
        return distributions.Categorical(out)

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return logits l k / 255, whose mean over the levels is about pixel_mean."""
        rate = exponential_rate(pixel_mean)[..., None]
        levels = jnp.arange(distributions.LEVELS) / (distributions.LEVELS - 1)
        return rate * levels.reshape((1,) * (rate.ndim - 1) + (-1,))
