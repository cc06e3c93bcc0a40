"""Real values, absolute error."""

from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from models import distributions
from models.batch import Sizes
from models.config import config, setting
from models.likelihoods.scale import with_scale
from models.likelihoods.shapes import Bias, Mean, Out, Scale


@config
class LaplaceLikelihood:
    """Real values around the decoder's mean, heavier tailed: absolute instead of squared error."""

    scale: Literal["fixed", "learned"] = "fixed"
    """fixed: width; learned: a parameter that starts at width"""
    width: float = setting(1.0, above=0)
    """mean absolute deviation b, in the units of x, of the density exp(-|x - mean| / b) / 2b"""

    def channels(self) -> int:
        """Return 1: the mean."""
        return 1

    def initial_log_scale(self) -> Float[Array, ""]:
        """Return log width."""
        return jnp.log(self.width)

    def build(self, sizes: Sizes, rngs: Any) -> Any:
        """Return the module."""
        return with_scale(self)

    def __call__(self, out: Out, key: Any) -> distributions.Laplace:
        """Return `distribution(out)`."""
        return self.distribution(out)

    def distribution(self, out: Out, log_scale: Scale = None) -> distributions.Laplace:
        """Return the Laplace density around `out`; log width where no `log_scale` is given."""
        scale = self.initial_log_scale() if log_scale is None else log_scale
        return distributions.Laplace(out[..., 0], scale)

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return pixel_mean."""
        return pixel_mean[..., None]
