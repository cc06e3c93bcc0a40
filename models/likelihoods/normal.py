"""Real values, squared error."""

from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from models import distributions
from models.batch import Sizes
from models.config import config, setting
from models.likelihoods.scale import with_scale
from models.likelihoods.shapes import Bias, Mean, Out, Scale


@config
class NormalLikelihood:
    """Real values around the decoder's mean, with one standard deviation for all of them."""

    scale: Literal["fixed", "learned", "optimal"] = "fixed"
    """fixed: std; learned: a parameter that starts at std; optimal: each batch's root mean squared error"""
    std: float = setting(1.0, above=0)
    """standard deviation in the units of x (fixed), or its first value (learned, optimal)"""

    def channels(self) -> int:
        """Return 1: the mean."""
        return 1

    def initial_log_scale(self) -> Float[Array, ""]:
        """Return log std."""
        return jnp.log(self.std)

    def build(self, sizes: Sizes, rngs: Any) -> Any:
        """Return the module."""
        return with_scale(self)

    def __call__(self, out: Out, key: Any) -> distributions.Normal | distributions.OptimalNormal:
        """Return `distribution(out)`."""
        return self.distribution(out)

    def distribution(self, out: Out, log_scale: Scale = None) -> distributions.Normal | distributions.OptimalNormal:
        """Return the normal around `out`; log std where no `log_scale` is given."""
        scale = self.initial_log_scale() if log_scale is None else log_scale
        return distributions.Normal(out[..., 0], scale)

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return pixel_mean."""
        return pixel_mean[..., None]
