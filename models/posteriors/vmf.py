"""Codes on the unit sphere."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.config import ConfigError, config
from models.distributions import VonMisesFisher
from models.networks.held import Held
from models.priors.sphere import SpherePrior


@config
class VMFPosterior:
    """Von Mises-Fisher: a direction and a concentration above 1 (Davidson et al. 2018); with prior sphere."""

    on_sphere = True

    def fits(self, model: Any) -> None:
        """Raise ConfigError for a prior off the sphere, or a sphere of no dimension."""
        if not isinstance(model.prior, SpherePrior):
            raise ConfigError("posterior vmf has codes on the sphere: use prior sphere")
        if model.latent < 3:
            raise ConfigError(f"posterior vmf needs latent of at least 3, got {model.latent}")

    def numbers(self, latent: int) -> int:
        """Return a direction and a concentration."""
        return latent + 1

    def build(self, latent: int, rngs: Any) -> Held:
        """Return the module."""
        return Held(self)

    def __call__(self, numbers: Float[Array, "batch numbers"], model: Any, key: Any) -> VonMisesFisher:
        """Return the distribution; kappa = 1 + softplus."""
        direction = numbers[:, :-1]
        norm = jnp.sqrt(jnp.maximum(jnp.sum(direction * direction, axis=1, keepdims=True), 1e-24))
        return VonMisesFisher(direction / norm, 1 + jax.nn.softplus(numbers[:, -1]))
