"""Bits."""

from typing import Any

import jax.numpy as jnp

from models import distributions
from models.batch import Sizes
from models.config import config
from models.likelihoods.shapes import Bias, Mean, Out, Scale
from models.networks.held import Held


@config
class BernoulliLikelihood:
    """Bits, or values in [0, 1] scored by cross-entropy; the decoder gives logits."""

    grey: bool = False
    """values between 0 and 1 occur (a run finds out from its data): their cross-entropy is no likelihood, and metrics
    are named after it; nothing else changes"""

    def channels(self) -> int:
        """Return 1: the logit."""
        return 1

    def initial_log_scale(self) -> None:
        """Return None: no scale."""

    def build(self, sizes: Sizes, rngs: Any) -> Any:
        """Return the module."""
        return Held(self)

    def __call__(self, out: Out, key: Any) -> distributions.Bernoulli:
        """Return `distribution(out)`."""
        return self.distribution(out)

    def distribution(self, out: Out, log_scale: Scale = None) -> distributions.Bernoulli:
        """Return the bits with logits `out`."""
        return (distributions.CrossEntropy if self.grey else distributions.Bernoulli)(out[..., 0])

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return logit(pixel_mean), the mean cut to [0.001, 0.999]."""
        p = jnp.clip(pixel_mean, 1e-3, 1 - 1e-3)
        return jnp.log(p / (1 - p))[..., None]
