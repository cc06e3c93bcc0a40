"""Levels by free probabilities."""

from typing import Any

import jax.numpy as jnp

from models import distributions
from models.batch import Sizes
from models.config import config, setting
from models.likelihoods.continuous_bernoulli import exponential_rate
from models.likelihoods.shapes import Bias, Mean, Out, Scale, check_levels
from models.networks.held import Held


@config
class CategoricalLikelihood:
    """Levels k / (n - 1), n = 256 in 8-bit data, with a free probability for each of them."""

    levels: int = setting(0, at_least=0)
    """number of levels from 0 to 1; 0: those of the data (256 where there are none to look at)"""

    def check(self) -> None:
        """Raise ConfigError for a single level."""
        check_levels(self.levels)

    def channels(self) -> int:
        """Return one logit per level."""
        return self.levels or distributions.LEVELS

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
        """Return logits l k / (n - 1), whose mean over the levels is about pixel_mean."""
        rate = exponential_rate(pixel_mean)[..., None]
        levels = jnp.arange(self.channels()) / (self.channels() - 1)
        return rate * levels.reshape((1,) * (rate.ndim - 1) + (-1,))
