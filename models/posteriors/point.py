"""The posterior of a plain autoencoder."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models import distributions
from models.config import ConfigError, config, setting
from models.networks.held import Held
from models.networks.layers import activation


@config
class PointPosterior:
    """A plain autoencoder: the code is certain, without a density."""

    activation: str = "identity"
    """of the code: identity, or any activation, such as sigmoid for KL sparsity"""
    active: int = setting(0, at_least=0)
    """k-sparse: units that stay, the largest; the others are 0 (Makhzani & Frey 2014); 0: all stay"""
    among: Literal["code", "batch"] = "code"
    """code: so many of every code; batch: in training, so many times the batch of all its codes together"""

    def check(self) -> None:
        """Raise ConfigError for an unknown activation."""
        activation(self.activation)

    def numbers(self, latent: int) -> int:
        """Return `latent`; ConfigError where fewer units exist than are to stay."""
        if self.active > latent:
            raise ConfigError(f"posterior.active must be at most latent={latent}, got {self.active}")
        return latent

    def build(self, latent: int, rngs: Any) -> Held:
        """Return the module."""
        return Held(self)

    def __call__(self, numbers: Float[Array, "batch latent"], model: Any, key: Any) -> distributions.Point:
        """Return the point."""
        z = activation(self.activation)(numbers)
        if self.active:
            z = jnp.where(z >= self.smallest(z, training=key is not None), z, 0)
        return distributions.Point(z)

    def smallest(self, z: Float[Array, "batch latent"], training: bool) -> Float[Array, "rows 1"]:
        """Return the least value that stays, per code or for the batch (ties stay)."""
        if self.among == "code" or not training:
            return jax.lax.top_k(z, self.active)[0][:, -1:]
        return jax.lax.top_k(z.reshape(1, -1), self.active * z.shape[0])[0][:, -1:]
