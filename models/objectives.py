"""Objectives: configs that are called with (model, x, key) and return a loss per example with its terms.

The loss is a sum over the event, never a mean over pixels or codes; whoever trains takes the mean over the
batch. Three things are random and separate: corruption belongs to the objective, sampling of the code to the
posterior, dropout and batch statistics to `training`. Keys for all come from the one key given.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.autoencoder import Autoencoder
from models.config import ConfigError, config, setting, with_traced
from models.corruption import corrupt
from models.distributions import Bernoulli, Distribution, Normal, Point, sum_event

Batch = Float[Array, "batch *event"]
PerExample = Float[Array, " batch"]
Result = tuple[PerExample, dict[str, PerExample]]
Error = Literal["squared", "cross_entropy", "nll"]
Step = Int[Array, ""] | int


def run(model: Autoencoder, x: Batch, key: PRNGKeyArray, training: bool) -> tuple[Normal | Point, Array, Distribution]:
    """Return q(z|x), a draw z from it and p(x|z); dropout and batch statistics only when `training`."""
    for_encoder = for_decoder = None
    if training:
        key, for_encoder, for_decoder = jax.random.split(key, 3)  # XLA drops what no layer uses
    q = model.encode(x, for_encoder)
    z = q.sample(key)
    return q, z, model.decode(z, for_decoder)


def reconstruction_error(error: Error, p: Distribution, x: Batch) -> PerExample:
    """Return the distance of x from p, summed over the event.

    squared: Σ (x - mean)²; nll: -log p(x), nats; cross_entropy: -Σ x log m + (1 - x) log(1 - m), nats, from
    logits, so only for a Bernoulli likelihood (ConfigError otherwise).
    """
    if error == "squared":
        return sum_event(jnp.square(x - p.mean))
    if error == "nll":
        return -p.log_prob(x)
    if error != "cross_entropy":
        raise ConfigError(f"error must be squared, cross_entropy or nll, got {error!r}")
    if not isinstance(p, Bernoulli):
        raise ConfigError(
            f"error='cross_entropy' needs a Bernoulli likelihood, got {type(p).__name__}: use error='nll'"
        )
    return -p.log_prob(x)


ERROR_TERMS = {"squared": "squared_error", "cross_entropy": "cross_entropy", "nll": "nll"}


@config
class Reconstruction:
    """Distance between x and its reconstruction: the plain autoencoder."""

    error: Error = "squared"
    """squared: sum of squared errors; cross_entropy: nats (Bernoulli); nll: -log p(x|z), nats"""

    def __call__(self, model: Autoencoder, x: Batch, key: PRNGKeyArray, training: bool = True) -> Result:
        """Return the error of each example."""
        _, _, p = run(model, x, key, training)
        loss = reconstruction_error(self.error, p, x)
        if training:
            model.track(p, x)
        return loss, {ERROR_TERMS[self.error]: loss}

    def at(self, step: Step) -> "Reconstruction":
        """Return itself: nothing is scheduled."""
        return self


@config
class Denoising:
    """Distance between the clean x and the reconstruction of a corrupted x (Vincent et al. 2008, 2010)."""

    corruption: Literal["gaussian", "mask", "salt_and_pepper"] = "gaussian"
    """gaussian: add noise; mask: set values to 0; salt_and_pepper: set values to 0 or 1"""
    level: float = setting(0.3, at_least=0)
    """gaussian: standard deviation in the units of x; mask, salt_and_pepper: share of values; 0: clean"""
    error: Error = "squared"
    """squared: sum of squared errors; cross_entropy: nats (Bernoulli); nll: -log p(x|z), nats"""

    def __call__(self, model: Autoencoder, x: Batch, key: PRNGKeyArray, training: bool = True) -> Result:
        """Return the error of each clean example, reconstructed from its corrupted self."""
        for_noise, for_model = jax.random.split(key)
        _, _, p = run(model, corrupt(self.corruption, x, for_noise, self.level), for_model, training)
        loss = reconstruction_error(self.error, p, x)
        if training:
            model.track(p, x)
        return loss, {ERROR_TERMS[self.error]: loss}

    def at(self, step: Step) -> "Denoising":
        """Return itself: nothing is scheduled."""
        return self

    def check(self) -> None:
        """Raise ConfigError for a share of values above 1."""
        share = self.corruption != "gaussian" and isinstance(self.level, (int, float))
        if share and self.level > 1:
            raise ConfigError(f"level is a share of values for {self.corruption!r}: at most 1, got {self.level}")


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

    def at(self, step: Step) -> "Sparse":
        """Return itself: nothing is scheduled."""
        return self


@config
class ELBO:
    """nll + beta |KL_free - capacity|: minus the evidence lower bound at beta = 1 and the other fields at 0.

    beta: Higgins et al. 2017. Warm-up: Bowman et al. 2016, Sønderby et al. 2016. Capacity: Burgess et al.
    2018, with beta as their gamma. Free bits: Kingma et al. 2016, equation 15. Needs posterior="normal".
    """

    beta: float = setting(1.0, at_least=0)
    """weight of the KL term"""
    warmup_steps: int = setting(0, at_least=0)
    """steps over which the weight rises linearly from 0 to beta; 0: no warm-up"""
    free_bits: float = setting(0.0, at_least=0)
    """nats of KL per code dimension, on average over the batch, below which it costs a constant; 0: none"""
    capacity: float = setting(0.0, at_least=0)
    """nats of KL that the code should hold: the distance from it is penalised; 0: the KL itself"""
    capacity_steps: int = setting(0, at_least=0)
    """steps over which the capacity rises linearly from 0; 0: constant from the start"""

    def __call__(self, model: Autoencoder, x: Batch, key: PRNGKeyArray, training: bool = True) -> Result:
        """Return the loss with the terms nll, kl (analytic) and negative_elbo = nll + kl, all nats."""
        if model.posterior != "normal":
            raise ConfigError(
                f"ELBO needs posterior='normal', got {model.posterior!r}: or use objective reconstruction"
            )
        q, _, p = run(model, x, key, training)
        nll = -p.log_prob(x)
        kl_terms = q.kl_terms(model.prior())  # type: ignore[union-attr]
        kl = sum_event(kl_terms)
        if training:
            model.track(p, x)
        loss = nll + self.beta * jnp.abs(self.free(kl_terms) - self.capacity)
        return loss, {"nll": nll, "kl": kl, "negative_elbo": nll + kl}

    def free(self, kl_terms: Float[Array, "batch latent"]) -> PerExample:
        """Return Σ_j of KL_j where its batch mean exceeds `free_bits`, else of `free_bits`.

        The mean over the batch is Σ_j max(free_bits, mean KL_j), and so is its gradient.
        """
        used = jnp.mean(kl_terms, axis=0, keepdims=True) > self.free_bits
        return sum_event(jnp.where(used, kl_terms, self.free_bits))

    def at(self, step: Step) -> "ELBO":
        """Return the objective of that (possibly traced) step: beta and capacity on their ramps."""
        return with_traced(
            self,
            beta=self.beta * ramp(step, self.warmup_steps),
            capacity=self.capacity * ramp(step, self.capacity_steps),
            warmup_steps=0,
            capacity_steps=0,
        )


def ramp(step: Step, steps: int) -> Any:
    """Return min(1, step / steps); 1 when `steps` is 0."""
    return 1.0 if steps == 0 else jnp.clip(jnp.asarray(step) / steps, 0, 1)


Objective = Reconstruction | Denoising | Sparse | ELBO
