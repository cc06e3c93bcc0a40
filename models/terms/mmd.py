"""Maximum mean discrepancy between codes and the prior."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.codes import prior_codes
from models.config import ConfigError, config, setting

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@config
class MMD:
    """The squared maximum mean discrepancy between the batch's codes and as many draws of the prior, unbiased.

    E k(z, z') + E k(p, p') - 2 E k(z, p) over pairs of different draws, k(a, b) = Σ_s C s / (C s + |a - b|²) with
    C = 2 latent width² and s from 0.1 to 10: inverse multiquadrics (Tolstikhin et al. 2018, WAE-MMD). With a
    posterior that draws it is InfoVAE's (Zhao et al. 2019). A property of the batch: the same for every example.
    """

    weight: float = setting(10.0, at_least=0)
    """factor of the term"""
    width: float = setting(1.0, above=0)
    """width of the kernels, standard deviations of the prior"""

    matches_prior = True

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the estimate; ConfigError for a batch of one, which has no pairs."""
        n, latent = done.z.shape
        if n < 2:
            raise ConfigError(f"mmd compares pairs of codes: batch_size must be at least 2, got {n}")
        theirs = prior_codes(done.model, done.key, n, done.batch.label)
        constant = 2 * latent * self.width**2
        apart = 1 - jnp.eye(n)

        def kernel(a: Array, b: Array) -> Array:
            square = jnp.sum(jnp.square(a[:, None] - b[None]), axis=2)
            return jnp.sum(jnp.stack([constant * s / (constant * s + square) for s in SCALES]), axis=0)

        within = lambda a: jnp.sum(kernel(a, a) * apart) / (n * (n - 1))
        value = within(done.z) + within(theirs) - 2 * jnp.mean(kernel(done.z, theirs))
        return jnp.broadcast_to(value, (n,))
