"""Values in [0, 1]."""

from typing import Any

import jax.numpy as jnp

from models import distributions
from models.batch import Sizes
from models.config import config
from models.likelihoods.shapes import Bias, Mean, Out, Scale
from models.networks.held import Held


def exponential_rate(mean: Mean) -> Mean:
    """Return about the l for which the density exp(l x) on [0, 1] has that mean.

    l = 2u (3 - u²) / (1 - u²) with u = 2 mean - 1: Cohen's approximation of the inverse Langevin
    function (1991), within 5%.
    """
    u = jnp.clip(2 * mean - 1, -0.99, 0.99)
    return 2 * u * (3 - u * u) / (1 - u * u)


@config
class ContinuousBernoulliLikelihood:
    """Values in [0, 1] with a normalised density (Loaiza-Ganem & Cunningham 2019), from logits."""

    def channels(self) -> int:
        """Return 1: the logit."""
        return 1

    def initial_log_scale(self) -> None:
        """Return None: no scale."""

    def build(self, sizes: Sizes, rngs: Any) -> Any:
        """Return the module."""
        return Held(self)

    def __call__(self, out: Out, key: Any) -> distributions.ContinuousBernoulli:
        """Return `distribution(out)`."""
        return self.distribution(out)

    def distribution(self, out: Out, log_scale: Scale = None) -> distributions.ContinuousBernoulli:
        """Return the densities with logits `out`."""
        return distributions.ContinuousBernoulli(out[..., 0])

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return the logits whose mean is about pixel_mean."""
        return exponential_rate(pixel_mean)[..., None]
