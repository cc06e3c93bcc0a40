"""Priors over codes. A prior is a distribution with a batch of one, which serves every example."""

import jax.numpy as jnp

from models.distributions import Normal


def standard_normal(latent: int) -> Normal:
    """Return N(0, I) over `latent` dimensions: mean and log_std are zeros of shape (1, latent)."""
    return Normal(jnp.zeros((1, latent)), jnp.zeros((1, latent)))
