"""A hierarchy of normals over one flat vector."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.distributions.event import Mask, PerExample
from models.distributions.normal import Normal

Vector = Float[Array, "batch dims"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["net", "context"], meta_fields=["groups", "batch"])
@dataclasses.dataclass(frozen=True)
class Chain:
    """Π_l N(z_l | z_<l, context) over groups of the units of z, the top level first.

    `net.level(l, above (batch, units above), context)` gives the normal of group l.
    """

    net: Any
    context: Any
    groups: tuple[int, ...]
    batch: int

    def given(self, z: Vector) -> Normal:
        """Return all conditionals at once, those at z: one normal over all units."""
        parts, start = [], 0
        for level, width in enumerate(self.groups):
            parts.append(self.net.level(level, z[:, :start], self.context))
            start += width
        sized = list(zip(parts, self.groups, strict=True))
        join = lambda name: jnp.concatenate(
            [jnp.broadcast_to(getattr(part, name), (z.shape[0], width)) for part, width in sized], axis=1
        )
        return Normal(join("mean"), join("log_std"))

    def _walk(self, key: PRNGKeyArray | None) -> Vector:
        z = jnp.zeros((self.batch, 0))
        for level, width in enumerate(self.groups):
            p = self.net.level(level, z, self.context)
            if key is None:
                new = p.mean
            else:
                noise = jax.random.normal(jax.random.fold_in(key, level), (self.batch, width))
                new = p.mean + jnp.exp(p.log_std) * noise
            z = jnp.concatenate([z, jnp.broadcast_to(new, (self.batch, width))], axis=1)
        return z

    @property
    def mean(self) -> Vector:
        """Return the means, each level's given the mean above it."""
        return self._walk(None)

    def sample(self, key: PRNGKeyArray) -> Vector:
        """Draw from the top down."""
        return self._walk(key)

    def log_prob(self, z: Vector, mask: Mask = None) -> PerExample:
        """Return Σ_l log N(z_l | z_<l), nats."""
        return self.given(z).log_prob(z, mask)
