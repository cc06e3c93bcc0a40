"""Levels by a rounded logistic variable."""

from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from models import distributions
from models.batch import Sizes
from models.config import config, setting
from models.distributions.finite import DATA_HIGHEST, bounded
from models.likelihoods.scale import with_scale
from models.likelihoods.shapes import Bias, Mean, Out, Scale, check_levels


@config
class DiscretizedLogisticLikelihood:
    """Levels k / (n - 1), n = 256 in 8-bit data: a rounded logistic variable (PixelCNN++, Salimans et al. 2017)."""

    scale: Literal["pixel", "learned"] = "pixel"
    """pixel: the decoder gives a scale for every value; learned: one parameter for all, starting at width"""
    width: float = setting(0.1, above=0)
    """first scale of the logistic variable, units of x (1 = all the levels)"""
    levels: int = setting(0, at_least=0)
    """number of levels from 0 to 1; 0: those of the data (256 where there are none to look at)"""

    def check(self) -> None:
        """Raise ConfigError for a single level."""
        check_levels(self.levels)

    def channels(self) -> int:
        """Return 2 (location, log scale), or 1 with a shared scale."""
        return 2 if self.scale == "pixel" else 1

    def initial_log_scale(self) -> Float[Array, ""]:
        """Return log width."""
        return jnp.log(self.width)

    def build(self, sizes: Sizes, rngs: Any) -> Any:
        """Return the module."""
        return with_scale(self)

    def __call__(self, out: Out, key: Any) -> distributions.DiscretizedLogistic:
        """Return `distribution(out)`."""
        return self.distribution(out)

    def distribution(self, out: Out, log_scale: Scale = None) -> distributions.DiscretizedLogistic:
        """Return the levels around `out[..., 0]`; a pixel's log scale is log width + `out[..., 1]`, in [-20, 10]."""
        scale = self.initial_log_scale() if log_scale is None else log_scale
        if self.scale == "pixel":
            scale = bounded(scale + out[..., 1], DATA_HIGHEST)
        return distributions.DiscretizedLogistic(out[..., 0], scale, self.levels or distributions.LEVELS)

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return pixel_mean for the location and 0 for the log scale's offset."""
        return jnp.stack([pixel_mean] + [jnp.zeros_like(pixel_mean)] * (self.channels() - 1), axis=-1)
