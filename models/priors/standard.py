"""The standard normal prior."""

from typing import Any

import jax.numpy as jnp

from models.batch import Sizes
from models.config import config
from models.distributions import Normal
from models.networks.held import Held


def standard_normal(latent: int) -> Normal:
    """Return N(0, I) over `latent` dimensions: mean and log_std are zeros of shape (1, latent)."""
    return Normal(jnp.zeros((1, latent)), jnp.zeros((1, latent)))


@config
class StandardPrior:
    """N(0, I)."""

    def build(self, latent: int, sizes: Sizes, rngs: Any) -> Held:
        """Return the module."""
        return Held(self)

    def __call__(self, model: Any, label: Any, key: Any) -> Normal:
        """Return the normal, a batch of one."""
        return standard_normal(model.latent)
