"""One batch's way through a model, and the distance at its end."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.autoencoder import Autoencoder
from models.config import ConfigError
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
