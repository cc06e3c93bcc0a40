"""A distribution pushed through an invertible map."""

import dataclasses
import functools
from typing import Any

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from models.distributions.event import Mask, PerExample

Vector = Float[Array, "batch dims"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["base", "flow", "context"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Flowed:
    """The image z of a draw u of `base` under `flow`, a module with forward and inverse (u, context) <-> z.

    Both give log |det dz/du|. A flow without an inverse knows the density of its own draws only.
    """

    base: Any
    flow: Any
    context: Any = None

    @property
    def mean(self) -> Vector:
        """Return the image of the base's mean: a point near the middle (the mean itself has no formula)."""
        return self.flow.forward(self.base.mean, self.context)[0]

    def sample(self, key: PRNGKeyArray) -> Vector:
        """Draw z."""
        return self.flow.forward(self.base.sample(key), self.context)[0]

    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[Vector, PerExample]:
        """Draw z with its log-density, nats: one pass, no inverse."""
        u = self.base.sample(key)
        z, log_det = self.flow.forward(u, self.context)
        return z, self.base.log_prob(u) - log_det

    def log_prob(self, z: Array, mask: Mask = None) -> PerExample:
        """Return log base(u) - log |det dz/du|, nats, u the preimage of z. ConfigError where there is no inverse."""
        u, log_det = self.flow.inverse(z, self.context)
        return self.base.log_prob(u) - log_det
