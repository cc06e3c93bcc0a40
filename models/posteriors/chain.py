"""A hierarchy of normals given the example."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models import distributions
from models.config import ConfigError, config, setting
from models.networks.levels import Levels, groups_of


@config
class ChainPosterior:
    """The code's units in levels, each normal given those above it and the example; z is one vector, top first."""

    groups: tuple[int, ...] = setting((), at_least=1)
    """units per level, top first, that sum to latent; empty: two levels, a third on top"""
    hidden: int = setting(64, at_least=1)
    """width of each level's network"""
    context: int = setting(64, at_least=1)
    """numbers of the encoder that every level sees"""
    ladder: bool = False
    """combine each level with that of the prior (chain), weighted by precision (Sønderby et al. 2016)"""

    def fits(self, model: Any) -> None:
        """Raise ConfigError for groups that are not those of the code, or of the prior of a ladder."""
        mine = groups_of(self.groups, model.latent, "posterior")
        if self.ladder and not hasattr(model.prior, "groups"):
            raise ConfigError("a ladder combines each level with that of its prior: use prior chain")
        if self.ladder and groups_of(model.prior.groups, model.latent, "prior") != mine:
            wrong = model.prior.groups
            raise ConfigError(f"a ladder needs prior.groups {mine} as posterior.groups, got {wrong}: use one for both")

    def numbers(self, latent: int) -> int:
        """Return the context."""
        return self.context

    def build(self, latent: int, rngs: nnx.Rngs) -> "TopDownByExample":
        """Return the module."""
        groups = groups_of(self.groups, latent, "posterior")
        return TopDownByExample(Levels(groups, self.context, self.hidden, rngs=rngs, small=False), self.ladder)


class TopDownByExample(nnx.Module):
    """The levels of a posterior; its own `level` combines them with the prior's in a ladder."""

    def __init__(self, levels: Levels, ladder: bool):
        self.levels, self.ladder = levels, ladder

    def __call__(self, numbers: Float[Array, "batch context"], model: Any, key: Any) -> distributions.Chain:
        """Return the hierarchy."""
        prior = model.prior_module.levels if self.ladder else None
        return distributions.Chain(self, (numbers, prior), self.levels.groups, numbers.shape[0])

    def level(self, index: int, above: Array, context: Any) -> distributions.Normal:
        """Return the normal of a level: the product of its own and the prior's, normalised, in a ladder."""
        numbers, prior = context
        numbers = jnp.broadcast_to(numbers, (above.shape[0], numbers.shape[1]))
        own = self.levels.level(index, above, numbers)
        if prior is None:
            return own
        p = prior.level(index, above, None)
        precision, other = jnp.exp(-2 * own.log_std), jnp.exp(-2 * p.log_std)
        total = precision + other
        return distributions.Normal((own.mean * precision + p.mean * other) / total, -0.5 * jnp.log(total))
