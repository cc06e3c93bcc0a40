"""Disentangled inferred prior: the covariance of codes against the identity."""

from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.codes import posterior_name
from models.config import ConfigError, config, setting
from models.distributions import Normal


@config
class DIP:
    """Σ_{i≠j} C_ij² + diagonal Σ_i (C_ii - 1)², C a covariance of codes (Kumar et al. 2018, DIP-VAE).

    I: of the posterior means, II: of the codes, which is that plus the mean variance (needs posterior normal). A
    property of the batch: the same for every example.
    """

    weight: float = setting(10.0, at_least=0)
    """factor of the term: lambda_od"""
    diagonal: float = setting(10.0, at_least=0)
    """weight of the variances relative to the covariances: lambda_d / lambda_od"""
    form: Literal["I", "II"] = "I"
    """I: covariance of the means; II: of the codes"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the distance from the identity, covariances divided by the batch."""
        if done.q is None:
            raise ConfigError("dip needs codes of examples, objective sampling has none: use objective elbo")
        mean = done.q.mean
        centred = mean - jnp.mean(mean, axis=0, keepdims=True)
        covariance = centred.T @ centred / mean.shape[0]
        if self.form == "II":
            if not isinstance(done.q, Normal):
                name = posterior_name(done.q)
                raise ConfigError(f"dip.form II needs posterior normal, got {name}: use form I")
            covariance = covariance + jnp.diag(jnp.mean(jnp.exp(2 * done.q.log_std), axis=0))
        variances = jnp.diagonal(covariance)
        apart = jnp.sum(jnp.square(covariance)) - jnp.sum(jnp.square(variances))
        value = apart + self.diagonal * jnp.sum(jnp.square(variances - 1))
        return jnp.broadcast_to(value, (mean.shape[0],))
