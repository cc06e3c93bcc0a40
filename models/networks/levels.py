"""The networks of a hierarchy of code units, and how many units each level has."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from models.config import ConfigError
from models.distributions import Normal
from models.distributions.finite import CODE_HIGHEST, bounded
from models.networks.mlp import MLP


def groups_of(groups: tuple[int, ...], latent: int, slot: str) -> tuple[int, ...]:
    """Return the units per level, top first; by default two levels, a third of the units on top.

    Raises ConfigError unless they sum to `latent`.
    """
    if not groups:
        return (latent // 3, latent - latent // 3) if latent > 2 else (1,) * latent
    if sum(groups) != latent:
        raise ConfigError(f"{slot}.groups must sum to latent={latent}, got {groups}: use latent {sum(groups)}")
    return groups


class Levels(nnx.Module):
    """One network per level: from the units above, and a context, to the mean and log deviation of its units.

    A level without anything above it is a standard normal. small: all levels begin near one, as a prior does; the
    levels of a posterior must not, or the decoder learns to live without them before they say anything.
    """

    def __init__(self, groups: tuple[int, ...], context: int, hidden: int, *, rngs: nnx.Rngs, small: bool):
        self.groups = groups
        nets, above = [], context
        for width in groups:
            nets.append(MLP([above, hidden, 2 * width], rngs=rngs, small=small) if above else None)
            above += width
        self.nets = nnx.List(nets)

    def level(self, index: int, above: Array, context: Any) -> Normal:
        """Return the normal of a level; context (batch, n) or None."""
        net = self.nets[index]
        if net is None:
            zeros = jnp.zeros((1, self.groups[index]))
            return Normal(zeros, zeros)
        mean, log_std = jnp.split(net(above if context is None else jnp.concatenate([context, above], 1)), 2, axis=1)
        return Normal(mean, bounded(log_std, CODE_HIGHEST))
