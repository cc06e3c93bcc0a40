"""The sparse autoencoder."""

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.autoencoder import Autoencoder
from models.config import ConfigError, config, setting
from models.distributions import sum_event
from models.objectives.passing import ERROR_TERMS, Batch, Error, PerExample, Result, Step, reconstruction_error, run


@config
class Sparse:
    """Reconstruction plus a penalty that makes codes sparse."""

    penalty: Literal["l1", "kl"] = "l1"
    """l1: sum of |code|; kl: divergence of each code unit's mean activation over the batch from target"""
    weight: float = setting(1e-3, at_least=0)
    """factor of the penalty"""
    target: float = setting(0.05, above=0, below=1)
    """kl: wanted mean activation of a code unit, between 0 and 1"""
    error: Error = "squared"
    """squared: sum of squared errors; cross_entropy: nats (Bernoulli); nll: -log p(x|z), nats"""

    def __call__(self, model: Autoencoder, x: Batch, key: PRNGKeyArray, training: bool = True) -> Result:
        """Return error + weight * penalty; the term `sparsity` is the penalty without its weight."""
        _, z, p = run(model, x, key, training)
        error = reconstruction_error(self.error, p, x)
        sparsity = sum_event(jnp.abs(z)) if self.penalty == "l1" else self.kl_sparsity(model, z)
        if training:
            model.track(p, x)
        return error + self.weight * sparsity, {ERROR_TERMS[self.error]: error, "sparsity": sparsity}

    def kl_sparsity(self, model: Autoencoder, z: Float[Array, "batch latent"]) -> PerExample:
        """Return Σ_j KL(target || mean of unit j over the batch), nats (Ng 2011, Sparse autoencoder notes).

        It is a property of the batch: every example gets the same number, so the batch mean is that number.
        Means are read as probabilities of a bit, so codes must lie in (0, 1): ConfigError unless the model's
        code activation is sigmoid. Means are cut to [1e-7, 1 - 1e-7].
        """
        if self.penalty != "kl":
            raise ConfigError(f"penalty must be l1 or kl, got {self.penalty!r}")
        if model.code != "sigmoid":
            raise ConfigError(
                f"penalty='kl' needs codes between 0 and 1: use posterior='point' with code='sigmoid', got "
                f"code={model.code!r}; or penalty='l1'"
            )
        t, mean = self.target, jnp.clip(jnp.mean(z, axis=0), 1e-7, 1 - 1e-7)
        divergence = t * jnp.log(t / mean) + (1 - t) * jnp.log((1 - t) / (1 - mean))
        return jnp.broadcast_to(jnp.sum(divergence), z.shape[:1])

    @property
    def ramp_steps(self) -> int:
        """Steps after which every weight is at its full value."""
        return 0

    def criterion(self, metrics: Mapping[str, Any]) -> Any:
        """Return what early stopping minimises: this objective's own validation value."""
        return metrics["objective"]

    def at(self, step: Step) -> "Sparse":
        """Return itself: nothing is scheduled."""
        return self
