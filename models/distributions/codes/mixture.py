"""Mixtures of distributions over vectors (batch, dims)."""

from typing import Any, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.distributions.event import Mask, PerExample

Vector = Float[Array, "batch dims"]


class Mixture(NamedTuple):
    """Σ_k softmax(logits)_k component_k: a batch of one; `components` is one distribution whose batch axis is k.

    Mixtures of normals, VampPriors (the components are posteriors) and kernel densities are this class.
    """

    logits: Array  # (k,)
    components: Any

    @property
    def mean(self) -> Vector:
        """Return the mixture's mean, (1, dims)."""
        return (jax.nn.softmax(self.logits) @ self.components.mean)[None]

    def sample(self, key: PRNGKeyArray) -> Vector:
        """Draw one vector, (1, dims)."""
        k_which, k_draw = jax.random.split(key)
        which = jax.random.categorical(k_which, self.logits)
        return self.components.sample(k_draw)[which][None]

    def log_prob(self, x: Vector, mask: Mask = None) -> PerExample:
        """Return log Σ_k w_k p_k(x), nats."""
        is_shared = lambda part: isinstance(part, nnx.Module)  # the flow that all components are pushed through
        axes = jax.tree.map(lambda part: None if is_shared(part) else 0, self.components, is_leaf=is_shared)
        alone = lambda part: part if is_shared(part) else part[None]
        one = lambda component: jax.tree.map(alone, component, is_leaf=is_shared).log_prob(x, mask)
        each = jax.vmap(one, (axes,))(self.components)  # (k, batch)
        return jax.nn.logsumexp(each + jax.nn.log_softmax(self.logits)[:, None], axis=0)
