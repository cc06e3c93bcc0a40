"""Likelihood configs: how many numbers per value the decoder gives, and the distribution they make.

Each has `channels()` (numbers per value), `initial_log_scale()` (of a scale shared by all values and learned,
or None), `distribution(out, log_scale)` and `bias(pixel_mean)`, the output bias whose distribution has about
that mean: a good start for the decoder.
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from models import distributions
from models.config import config, setting

Out = Float[Array, "batch *event channels"]
Mean = Float[Array, "*event"]
Bias = Float[Array, "*event channels"]
Scale = Float[Array, ""] | None


def _exponential_rate(mean: Mean) -> Mean:
    """Return about the l for which the density exp(l x) on [0, 1] has that mean.

    l = 2u (3 - u²) / (1 - u²) with u = 2 mean - 1: Cohen's approximation of the inverse Langevin
    function (1991), within 5%.
    """
    u = jnp.clip(2 * mean - 1, -0.99, 0.99)
    return 2 * u * (3 - u * u) / (1 - u * u)


@config
class Bernoulli:
    """Bits, or values in [0, 1] scored by cross-entropy; the decoder gives logits."""

    def channels(self) -> int:
        """Return 1: the logit."""
        return 1

    def initial_log_scale(self) -> None:
        """Return None: no scale."""

    def distribution(self, out: Out, log_scale: Scale = None) -> distributions.Bernoulli:
        """Return the bits with logits `out`."""
        return distributions.Bernoulli(out[..., 0])

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return logit(pixel_mean), the mean cut to [0.001, 0.999]."""
        p = jnp.clip(pixel_mean, 1e-3, 1 - 1e-3)
        return jnp.log(p / (1 - p))[..., None]


@config
class ContinuousBernoulli:
    """Values in [0, 1] with a normalised density (Loaiza-Ganem & Cunningham 2019), from logits."""

    def channels(self) -> int:
        """Return 1: the logit."""
        return 1

    def initial_log_scale(self) -> None:
        """Return None: no scale."""

    def distribution(self, out: Out, log_scale: Scale = None) -> distributions.ContinuousBernoulli:
        """Return the densities with logits `out`."""
        return distributions.ContinuousBernoulli(out[..., 0])

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return the logits whose mean is about pixel_mean."""
        return _exponential_rate(pixel_mean)[..., None]


@config
class Normal:
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

    def distribution(self, out: Out, log_scale: Scale = None) -> distributions.Normal | distributions.OptimalNormal:
        """Return the normal around `out`; log std where no `log_scale` is given."""
        scale = self.initial_log_scale() if log_scale is None else log_scale
        return distributions.Normal(out[..., 0], scale)

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return pixel_mean."""
        return pixel_mean[..., None]


@config
class Laplace:
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

    def distribution(self, out: Out, log_scale: Scale = None) -> distributions.Laplace:
        """Return the Laplace density around `out`; log width where no `log_scale` is given."""
        scale = self.initial_log_scale() if log_scale is None else log_scale
        return distributions.Laplace(out[..., 0], scale)

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return pixel_mean."""
        return pixel_mean[..., None]


@config
class DiscretizedLogistic:
    """8-bit values k / 255: a logistic variable rounded to levels (PixelCNN++, Salimans et al. 2017)."""

    scale: Literal["pixel", "learned"] = "pixel"
    """pixel: the decoder gives a scale for every value; learned: one parameter for all, starting at width"""
    width: float = setting(0.1, above=0)
    """first scale of the logistic variable, units of x (1 = 255 levels)"""

    def channels(self) -> int:
        """Return 2 (location, log scale), or 1 with a shared scale."""
        return 2 if self.scale == "pixel" else 1

    def initial_log_scale(self) -> Float[Array, ""]:
        """Return log width."""
        return jnp.log(self.width)

    def distribution(self, out: Out, log_scale: Scale = None) -> distributions.DiscretizedLogistic:
        """Return the levels around `out[..., 0]`; a pixel's log scale is log width + `out[..., 1]`."""
        scale = self.initial_log_scale() if log_scale is None else log_scale
        if self.scale == "pixel":
            return distributions.DiscretizedLogistic(out[..., 0], scale + out[..., 1])
        return distributions.DiscretizedLogistic(out[..., 0], scale)

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return pixel_mean for the location and 0 for the log scale's offset."""
        return jnp.stack([pixel_mean] + [jnp.zeros_like(pixel_mean)] * (self.channels() - 1), axis=-1)


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
        rate = _exponential_rate(pixel_mean)[..., None]
        levels = jnp.arange(distributions.LEVELS) / (distributions.LEVELS - 1)
        return rate * levels.reshape((1,) * (rate.ndim - 1) + (-1,))


Likelihood = Bernoulli | ContinuousBernoulli | Normal | Laplace | DiscretizedLogistic | Categorical


def learned(likelihood: Likelihood) -> bool:
    """Whether one shared scale is a parameter of the model."""
    return getattr(likelihood, "scale", None) == "learned"


def optimal(likelihood: Likelihood) -> bool:
    """Whether the scale is each batch's own (Normal with scale="optimal")."""
    return getattr(likelihood, "scale", None) == "optimal"
