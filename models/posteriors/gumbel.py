"""Categorical codes, relaxed while they are trained."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.config import ConfigError, config, setting
from models.distributions import Mask, PerExample
from models.networks.held import Held
from models.priors.codes import needs_codes

Vector = Float[Array, "batch dims"]


class Relaxed(NamedTuple):
    """Independent categorical choices as one-hot vectors beside each other; logits (batch, places, size).

    temperature: of the draw softmax((logits + Gumbel) / temperature) (Jang et al. 2017, Maddison et al. 2017), or None
    for the choices themselves. log_prob is that of the choices, linear in between: Σ z · log softmax(logits).
    """

    logits: Array
    temperature: Any

    @property
    def mean(self) -> Vector:
        """Return the probabilities."""
        return jax.nn.softmax(self.logits).reshape(self.logits.shape[0], -1)

    def sample(self, key: PRNGKeyArray) -> Vector:
        """Draw relaxed choices, or one-hot ones at temperature None."""
        noisy = self.logits + jax.random.gumbel(key, self.logits.shape, self.logits.dtype)
        if self.temperature is None:
            chosen = jax.nn.one_hot(jnp.argmax(noisy, axis=-1), noisy.shape[-1], dtype=noisy.dtype)
        else:
            chosen = jax.nn.softmax(noisy / self.temperature)
        return chosen.reshape(chosen.shape[0], -1)

    def log_prob(self, z: Vector, mask: Mask = None) -> PerExample:
        """Return Σ z · log softmax(logits), nats."""
        log_p = jax.nn.log_softmax(self.logits)
        return jnp.sum(z.reshape(z.shape[0], *log_p.shape[1:]) * log_p, axis=(1, 2))

    def closed(self, other: Any) -> bool:
        """Whether `kl_terms(other)` has a formula: against a uniform prior over codes."""
        return hasattr(other, "places")

    def kl_terms(self, other: Any) -> Float[Array, "batch places"]:
        """Return log size - entropy of every place, nats."""
        log_p = jax.nn.log_softmax(self.logits)
        return jnp.sum(jnp.exp(log_p) * log_p, axis=-1) + jnp.log(float(other.size))


@config
class GumbelPosterior:
    """One of `size` entries at every place, relaxed in training, exact in evaluation (Jang et al. 2017).

    The code is the one-hot vectors beside each other: `size` units a place, which must divide latent.
    """

    size: int = setting(0, at_least=0)
    """entries of every place; 0: 5, 4, 3 or 2, the largest that divides latent"""
    temperature: float = setting(1.0, above=0)
    """of the relaxation at first"""
    final: float = setting(0.5, above=0)
    """of the relaxation after `steps`"""
    steps: int = setting(0, at_least=0)
    """training steps over which the temperature falls, by equal factors; 0: it stays"""

    discrete = True

    def fits(self, model: Any) -> None:
        """Raise ConfigError for a prior that is not over codes."""
        needs_codes(model, "gumbel")

    def numbers(self, latent: int) -> int:
        """Return `latent`: a logit per unit."""
        self.entries(latent)
        return latent

    def entries(self, latent: int) -> int:
        """Return the entries of a place. Raises ConfigError where they do not divide the code."""
        size = self.size or next((s for s in (5, 4, 3, 2) if latent % s == 0), latent)
        if latent % size or size < 2:
            raise ConfigError(f"posterior.size must divide latent={latent} and be 2 or more, got {size}")
        return size

    def build(self, latent: int, rngs: Any) -> "Choices":
        """Return the module."""
        return Choices(self, latent)


class Choices(nnx.Module):
    """The relaxation and its temperature; `places` choices of `size` entries are a code."""

    def __init__(self, cfg: GumbelPosterior, latent: int):
        self.held, self.size = Held(cfg), cfg.entries(latent)
        self.places = latent // self.size
        self.step = nnx.BatchStat(jnp.zeros(())) if cfg.steps else None

    def lookup(self, indices: Array) -> Vector:
        """Return the codes of indices (batch, places)."""
        return jax.nn.one_hot(indices, self.size).reshape(indices.shape[0], -1)

    def chosen(self, z: Vector) -> Float[Array, "batch places size"]:
        """Return the entries of codes: the code itself, place by place."""
        return z.reshape(z.shape[0], self.places, self.size)

    def __call__(self, numbers: Vector, model: Any, key: Any) -> Relaxed:
        """Return the choices: relaxed with a key (which counts a step), exact without."""
        logits = numbers.reshape(numbers.shape[0], self.places, self.size)
        if key is None:
            return Relaxed(logits, None)
        cfg = self.held()
        if self.step is None:
            return Relaxed(logits, cfg.temperature)
        share = jnp.minimum(self.step[...] / cfg.steps, 1)
        self.step[...] = self.step[...] + 1
        return Relaxed(logits, cfg.temperature * (cfg.final / cfg.temperature) ** share)
