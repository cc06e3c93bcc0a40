"""Normals whose code units depend on each other given the example."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from models.config import config
from models.distributions import FullNormal
from models.distributions.finite import CODE_HIGHEST, bounded
from models.networks.held import Held


@config
class FullPosterior:
    """A normal with any covariance: a mean and a triangular factor, log-parametrised on its diagonal."""

    def numbers(self, latent: int) -> int:
        """Return a mean and a triangle."""
        return latent + latent * (latent + 1) // 2

    def build(self, latent: int, rngs: Any) -> Held:
        """Return the module."""
        return Held(self)

    def __call__(self, numbers: Float[Array, "batch numbers"], model: Any, key: Any) -> FullNormal:
        """Return the normal: means first, then the triangle row by row."""
        latent = model.latent
        rows, columns = jnp.tril_indices(latent)
        tril = jnp.zeros((numbers.shape[0], latent, latent), numbers.dtype)
        tril = tril.at[:, rows, columns].set(numbers[:, latent:])
        diagonal = jnp.eye(latent, dtype=bool)[None]
        return FullNormal(numbers[:, :latent], jnp.where(diagonal, jnp.exp(bounded(tril, CODE_HIGHEST)), tril))
