"""Certain values: the codes of a plain autoencoder, and a choice among the entries of a codebook."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.distributions.event import Event, Mask, PerExample

Vector = Float[Array, "batch dims"]


class Point(NamedTuple):
    """All mass at `mean`: the posterior of a plain autoencoder. It has no density: no log_prob, no kl."""

    mean: Array

    def sample(self, key: PRNGKeyArray) -> Event:
        """Return the point; `key` is unused."""
        return self.mean


class Quantised(NamedTuple):
    """All mass at one discrete code: log_prob of its own code is 0, so nll - log P(code) is a true bound.

    mean: the chosen entries, with the gradient of what was encoded (straight through). indices (batch, places).
    commitment: |encoded - entries|² (batch,), gradient in what was encoded; distance: the same with the gradient in
    the entries, None where they have none.
    """

    mean: Array
    indices: Array
    commitment: Array
    distance: Any

    def sample(self, key: PRNGKeyArray) -> Vector:
        """Return the code; `key` is unused."""
        return self.mean

    def log_prob(self, z: Array, mask: Mask = None) -> PerExample:
        """Return 0: its own code, the only one it is asked about, is certain."""
        return jnp.zeros(z.shape[0], self.mean.dtype)

    def closed(self, other: Any) -> bool:
        """Whether `kl_terms(other)` has a formula: against a uniform prior over codes."""
        return hasattr(other, "places")

    def kl_terms(self, other: Any) -> Float[Array, "batch places"]:
        """Return log size at every place, nats."""
        return jnp.full(self.indices.shape, jnp.log(float(other.size)))
