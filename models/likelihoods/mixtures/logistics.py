"""Levels by a mixture of rounded logistic variables."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from models import distributions
from models.batch import Sizes
from models.config import config, setting
from models.distributions.event import Event, Mask, PerExample, sum_event
from models.distributions.finite import DATA_HIGHEST, bounded
from models.distributions.logistic import clipped_mean, log_level, to_level
from models.likelihoods.shapes import Bias, Mean, Out, check_levels
from models.networks.held import Held


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["logits", "location", "log_scale"], meta_fields=["levels"]
)
@dataclasses.dataclass(frozen=True)
class MixtureOfLogistics:
    """P(x) = Σ_i softmax(logits)_i P(x; location_i, scale_i) of every value; all arrays are (batch, *event, k)."""

    logits: Any
    location: Any
    log_scale: Any
    levels: int = distributions.LEVELS

    @property
    def unit(self) -> str:
        """Return "bits": see `unit_of`."""
        return "bits"

    @property
    def mean(self) -> Event:
        """Return the mixture's mean of clipped logistic variables: within half a level of that of the levels."""
        return jnp.sum(jax.nn.softmax(self.logits) * clipped_mean(self.location, self.log_scale), axis=-1)

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw a component, then a level k / (levels - 1) of it."""
        k_which, k_noise = jax.random.split(key)
        which = jax.random.categorical(k_which, self.logits)[..., None]
        location, log_scale = (jnp.take_along_axis(a, which, -1)[..., 0] for a in (self.location, self.log_scale))
        return to_level(location + jnp.exp(log_scale) * jax.random.logistic(k_noise, location.shape), self.levels)

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return Σ log Σ_i softmax(logits)_i P_i(level), nats."""
        each = log_level(x[..., None], self.location, self.log_scale, self.levels)
        return sum_event(jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + each, axis=-1), mask)

    def log_table(self) -> Array:
        """Return log P of every level, nats: (batch, *event, levels)."""
        levels = jnp.arange(self.levels) / (self.levels - 1)
        row = levels.reshape((1,) * (self.location.ndim - 1) + (-1, 1))
        each = log_level(row, self.location[..., None, :], self.log_scale[..., None, :], self.levels)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits)[..., None, :] + each, axis=-1)


@config
class LogisticMixtureLikelihood:
    """Levels k / (n - 1) by a mixture of rounded logistic variables (PixelCNN++, Salimans et al. 2017).

    Each value has its own mixture; colour channels are independent given the code, unlike in PixelCNN++.
    """

    NAME = "logistic_mixture"

    components: int = setting(5, at_least=1)
    """number of logistic variables of every value; 1: discretizedlogistic with a scale for every value"""
    width: float = setting(0.1, above=0)
    """first scale of the logistic variables, units of x (1 = all the levels)"""
    levels: int = setting(0, at_least=0)
    """number of levels from 0 to 1; 0: those of the data (256 where there are none to look at)"""

    support = "levels"

    def check(self) -> None:
        """Raise ConfigError for a single level."""
        check_levels(self.levels)

    def channels(self) -> int:
        """Return 3 per component: logit, location, log scale."""
        return 3 * self.components

    def build(self, sizes: Sizes, rngs: Any) -> Held:
        """Return the module."""
        return Held(self)

    def __call__(self, out: Out, key: Any) -> MixtureOfLogistics:
        """Return the mixture; a component's log scale is log width plus the decoder's number, in [-20, 10]."""
        logits, location, offset = jnp.split(out, 3, axis=-1)
        log_scale = bounded(jnp.log(self.width) + offset, DATA_HIGHEST)
        return MixtureOfLogistics(logits, location, log_scale, self.levels or distributions.LEVELS)

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return equal weights, locations spread by one width around pixel_mean, and 0 for the log scales' offsets."""
        nothing = jnp.zeros((*pixel_mean.shape, self.components), pixel_mean.dtype)
        spread = jnp.linspace(-1, 1, self.components) if self.components > 1 else jnp.zeros(1)
        offset = (self.width * spread).reshape((1,) * pixel_mean.ndim + (-1,)).astype(pixel_mean.dtype)
        return jnp.concatenate([nothing, pixel_mean[..., None] + offset, nothing], axis=-1)
