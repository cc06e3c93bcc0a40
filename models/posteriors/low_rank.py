"""Normals with a covariance of diagonal plus low rank."""

from typing import Any

from jaxtyping import Array, Float

from models import distributions
from models.config import ConfigError, config, setting
from models.distributions.finite import CODE_HIGHEST, bounded
from models.networks.held import Held


@config
class LowRankPosterior:
    """A normal with covariance diag(std²) + F Fᵀ, F with few columns (Rezende et al. 2014, section 4.3)."""

    NAME = "low_rank"

    rank: int = setting(2, at_least=1)
    """columns of F"""

    def numbers(self, latent: int) -> int:
        """Return mean, log std and F; ConfigError for more columns than units."""
        if self.rank > latent:
            raise ConfigError(f"posterior.rank must be at most latent={latent}, got {self.rank}: use posterior full")
        return (2 + self.rank) * latent

    def build(self, latent: int, rngs: Any) -> Held:
        """Return the module."""
        return Held(self)

    def __call__(self, numbers: Float[Array, "batch numbers"], model: Any, key: Any) -> distributions.LowRank:
        """Return the normal: means, log standard deviations, then F."""
        n = model.latent
        factor = numbers[:, 2 * n :].reshape(numbers.shape[0], n, self.rank)
        return distributions.LowRank(numbers[:, :n], bounded(numbers[:, n : 2 * n], CODE_HIGHEST), factor)
