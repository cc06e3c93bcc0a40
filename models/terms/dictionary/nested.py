"""Codes whose beginnings are codes."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.config import config, setting
from models.distributions import sum_event


@config
class Nested:
    """Σ_m |x - decode(the first units of z)|² over the first half, quarter, ... of the units: Matryoshka.

    Bussmann et al. 2025 (Learning multi-level features with Matryoshka sparse autoencoders), equation 4: the first
    units must reconstruct by themselves, so that a general feature is not absorbed by special ones. Rippel et al. 2014
    (Learning ordered representations with nested dropout) before.
    """

    weight: float = setting(1.0, at_least=0)
    """factor of the term; the whole code is the objective's own"""
    levels: int = setting(3, at_least=1)
    """so many beginnings, each half as long as the one before"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the squared errors of each example, summed over the beginnings (of at least one unit)."""
        latent, total = done.z.shape[1], jnp.zeros(done.z.shape[0])
        for level in range(1, self.levels + 1):
            first = jnp.arange(latent) < max(1, latent >> level)
            mean = done.model.decode(jnp.where(first[None], done.z, 0), None, done.batch.label).mean
            total = total + sum_event(jnp.square(done.batch.x - mean), done.batch.mask)
        return total
