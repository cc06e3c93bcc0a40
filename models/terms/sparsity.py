"""Penalties that make codes sparse."""

from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.codes import posterior_name
from models.config import ConfigError, config, setting
from models.distributions import sum_event
from models.networks.held import Held


@config
class Sparsity:
    """Σ |z|, or how far each unit's mean activation over the batch is from a small target."""

    penalty: Literal["l1", "kl", "l0"] = "l1"
    """l1: sum of |code| (of a gated one, of what opens its gates); l0: units in use (posterior jump); kl: divergence of
    each code unit's mean activation over the batch from target"""
    weight: float = setting(1e-3, at_least=0)
    """factor of the penalty"""
    target: float = setting(0.05, above=0, below=1)
    """kl: wanted mean activation of a code unit, between 0 and 1"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the penalty of each example, without its weight."""
        if self.penalty == "kl":
            return self.divergence(done)
        module = done.model.posterior_module
        if self.penalty == "l1":
            gated = hasattr(module, "gate") and done.head is not None
            return sum_event(module.gate(done.head) if gated else jnp.abs(done.z))
        if not hasattr(module, "open") or done.head is None:
            name = posterior_name(done.q)
            raise ConfigError(f"penalty='l0' has a gradient in learned thresholds: use posterior jump, got {name}")
        return sum_event(module.open(done.head))

    def divergence(self, done: Pass) -> Float[Array, " batch"]:
        """Return Σ_j KL(target || mean of unit j over the batch), nats (Ng 2011, Sparse autoencoder notes).

        It is a property of the batch: every example gets the same number, so the batch mean is that number.
        Means are read as probabilities of a bit, so codes must lie in (0, 1): ConfigError unless the posterior is
        a point with activation sigmoid. Means are cut to [1e-7, 1 - 1e-7].
        """
        module = done.model.posterior_module
        held = module if isinstance(module, Held) else getattr(module, "held", None)
        activation = getattr(held() if held else None, "activation", "identity")
        if activation != "sigmoid":
            raise ConfigError(
                f"penalty='kl' needs codes between 0 and 1: use posterior point with activation sigmoid, got "
                f"activation={activation!r}; or penalty='l1'"
            )
        t, mean = self.target, jnp.clip(jnp.mean(done.z, axis=0), 1e-7, 1 - 1e-7)
        divergence = t * jnp.log(t / mean) + (1 - t) * jnp.log((1 - t) / (1 - mean))
        return jnp.broadcast_to(jnp.sum(divergence), done.z.shape[:1])
