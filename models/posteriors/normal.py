"""Independent normals: the posterior of the variational autoencoder."""

from typing import Any

from jaxtyping import Array, Float

from models import distributions
from models.config import config
from models.distributions.finite import CODE_HIGHEST, bounded
from models.networks.held import Held


@config
class NormalPosterior:
    """Mean and log standard deviation of every code unit (Kingma & Welling 2014)."""

    def numbers(self, latent: int) -> int:
        """Return 2 per unit."""
        return 2 * latent

    def build(self, latent: int, rngs: Any) -> Held:
        """Return the module."""
        return Held(self)

    def __call__(self, numbers: Float[Array, "batch numbers"], model: Any, key: Any) -> distributions.Normal:
        """Return the normal: means first, then log standard deviations, cut to [-20, 3] (see `bounded`)."""
        latent = numbers.shape[1] // 2
        return distributions.Normal(numbers[:, :latent], bounded(numbers[:, latent:], CODE_HIGHEST))
