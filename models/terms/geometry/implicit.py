"""The regulariser that a variational autoencoder applies without saying so, in closed form."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models import distributions
from models.batch import Pass
from models.config import ConfigError, config, setting
from models.terms.geometry.halves import Map, mean_code, of_pass
from models.terms.geometry.volume import half_log_det


@config
class Implicit:
    """½ |μ|² + ½ log det(I + JᵀHJ / β), nats, β = the term's weight, at the mean code μ of each example.

    What the beta-VAE's KL comes to once the posterior's covariance is the best one, (I + JᵀHJ / β)⁻¹, to second order
    (Kumar & Poole 2020, "On implicit regularization in beta-VAEs"); with a point posterior and the nll as error it is
    their deterministic autoencoder. H: Fisher information of p(x|z) in the decoder's numbers, 1 / σ² of a normal,
    p (1 - p) of a Bernoulli's logits. diagonal: a posterior without correlations, ½ Σ_i log(1 + J_iᵀHJ_i / β).
    """

    weight: float = setting(1.0, above=0)
    """β: factor of the term, and in it"""
    form: Literal["diagonal", "full"] = "diagonal"
    """diagonal: independent units, what a normal posterior has; full: by QR"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the regulariser; ConfigError for a likelihood other than normal or Bernoulli."""
        mean = mean_code(done.q, "implicit")
        half = of_pass(done._replace(z=mean), "decoder", "implicit")
        j = root_information(done.model, half) * (self.weight**-0.5)
        norm = 0.5 * jnp.sum(mean * mean, axis=1)
        if self.form == "diagonal":
            return norm + 0.5 * jnp.sum(jnp.log1p(jnp.sum(j * j, axis=1)), axis=1)
        eye = jnp.broadcast_to(jnp.eye(j.shape[2], dtype=j.dtype)[None], (j.shape[0], j.shape[2], j.shape[2]))
        return norm + half_log_det(jnp.concatenate([j, eye], axis=1))


def root_information(model: Any, half: Map) -> Float[Array, "batch outputs latent"]:
    """Return √H J of each example: no division by p (1 - p), which may be 0."""

    def numbers(z: Array, extra: Any) -> tuple[Array, Array]:
        p = model.decode(z, None, extra[0])
        flat = lambda a: a.reshape(z.shape[0], -1)
        if isinstance(p, distributions.Bernoulli):
            return flat(p.logits), jnp.exp(-0.5 * (jax.nn.softplus(flat(p.logits)) + jax.nn.softplus(-flat(p.logits))))
        if type(p) is distributions.Normal:
            return flat(p.mean), flat(jnp.broadcast_to(jnp.exp(-p.log_std), p.mean.shape))
        got = type(p).__name__.lower()
        raise ConfigError(f"implicit knows normal and bernoulli likelihoods, got {got}: use one of them")

    root = numbers(half.at, half.extra)[1]
    return root[:, :, None] * half._replace(many=lambda z, extra: numbers(z, extra)[0]).jacobians()
