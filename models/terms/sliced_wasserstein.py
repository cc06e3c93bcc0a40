"""Sliced Wasserstein distance between codes and the prior."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.codes import prior_codes
from models.config import config, setting


@config
class SlicedWasserstein:
    """The mean over random directions of the squared 2-Wasserstein distance of codes and prior draws along them.

    In one dimension it is the mean squared gap of sorted values (Kolouri et al. 2019, SWAE). A property of the batch:
    the same for every example.
    """

    NAME = "sliced_wasserstein"

    weight: float = setting(10.0, at_least=0)
    """factor of the term"""
    directions: int = setting(50, at_least=1)
    """number of random directions, new ones each step"""

    matches_prior = True

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the estimate."""
        k_direction, k_prior = jax.random.split(done.key)
        n, latent = done.z.shape
        theirs = prior_codes(done.model, k_prior, n, done.batch.label)
        towards = jax.random.normal(k_direction, (latent, self.directions))
        towards = towards / jnp.linalg.norm(towards, axis=0, keepdims=True)
        gap = jnp.sort(done.z @ towards, axis=0) - jnp.sort(theirs @ towards, axis=0)
        return jnp.broadcast_to(jnp.mean(gap * gap), (n,))
