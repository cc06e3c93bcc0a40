"""One prior per class."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models import distributions
from models.batch import Sizes
from models.config import ConfigError, config, setting
from models.distributions import at_least_float32


@config
class LabelledPrior:
    """One normal per class with a trained mean and deviation: a conditional prior (Sohn et al. 2015)."""

    spread: float = setting(1.0, above=0)
    """standard deviation of the first means"""

    labelled = True  # the data's labels are read for it

    def build(self, latent: int, sizes: Sizes, rngs: nnx.Rngs) -> "PerClass":
        """Return the module. Raises ConfigError for data without labels."""
        if not sizes.classes:
            raise ConfigError("prior labelled needs data with labels, these have none: use prior mixture")
        return PerClass(self.spread * jax.random.normal(rngs.params(), (sizes.classes, latent)))


class PerClass(nnx.Module):
    """Means and log deviations, (classes, latent)."""

    def __init__(self, mean: Any):
        self.mean, self.log_std = nnx.Param(mean), nnx.Param(jnp.zeros(mean.shape))
        self.classes = len(mean)

    def __call__(self, model: Any, label: Any, key: Any) -> distributions.Normal:
        """Return the normal of each label, one per example; N(0, I) where the label is unknown (-1)."""
        if label is None:
            raise ValueError("this model's prior is one per class: give the label of every example")
        if not jnp.issubdtype(label.dtype, jnp.integer):
            label = jnp.argmax(label, axis=1)
        known = (label >= 0)[:, None]
        pick = lambda table: jnp.where(known, at_least_float32(table[...])[jnp.maximum(label, 0)], 0)
        return distributions.Normal(pick(self.mean), pick(self.log_std))
