"""A hierarchy of normals as the prior."""

from typing import Any

from flax import nnx

from models import distributions
from models.batch import Sizes
from models.config import config, setting
from models.networks.levels import Levels, groups_of


@config
class ChainPrior:
    """N(0, I) on top, every further level normal given those above it; z stays one vector, top level first."""

    groups: tuple[int, ...] = setting((), at_least=1)
    """units per level, top first, that sum to latent; empty: two levels, a third on top"""
    hidden: int = setting(64, at_least=1)
    """width of each level's network"""

    def fits(self, model: Any) -> None:
        """Raise ConfigError for groups that do not sum to the code."""
        groups_of(self.groups, model.latent, "prior")

    def build(self, latent: int, sizes: Sizes, rngs: nnx.Rngs) -> "TopDown":
        """Return the module."""
        return TopDown(Levels(groups_of(self.groups, latent, "prior"), 0, self.hidden, rngs=rngs, small=True))


class TopDown(nnx.Module):
    """The levels of a prior."""

    def __init__(self, levels: Levels):
        self.levels = levels

    def __call__(self, model: Any, label: Any, key: Any) -> distributions.Chain:
        """Return the hierarchy, a batch of one."""
        return distributions.Chain(self.levels, None, self.levels.groups, 1)
