"""The uniform distribution on a sphere."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.distributions.event import Mask, PerExample

Vector = Float[Array, "batch dims"]


def log_area(dims: int) -> float:
    """Return the log of the area of the unit sphere in R^dims: 2 π^(dims / 2) / Γ(dims / 2)."""
    return math.log(2) + 0.5 * dims * math.log(math.pi) - math.lgamma(0.5 * dims)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["dims"])
@dataclasses.dataclass(frozen=True)
class UniformSphere:
    """Unit vectors of any direction alike; densities are with respect to the area of the sphere."""

    dims: int

    @property
    def mean(self) -> Vector:
        """Return the centre, (1, dims)."""
        return jnp.zeros((1, self.dims))

    def sample(self, key: PRNGKeyArray) -> Vector:
        """Draw one unit vector, (1, dims)."""
        noise = jax.random.normal(key, (1, self.dims))
        return noise / jnp.linalg.norm(noise, axis=1, keepdims=True)

    def log_prob(self, z: Vector, mask: Mask = None) -> PerExample:
        """Return minus the log of the area, nats."""
        return jnp.full(z.shape[0], -log_area(self.dims))
