"""Every direction alike."""

from typing import Any

from models.batch import Sizes
from models.config import ConfigError, config
from models.distributions import UniformSphere
from models.networks.held import Held


@config
class SpherePrior:
    """All directions alike: the prior of a hyperspherical VAE (Davidson et al. 2018)."""

    def fits(self, model: Any) -> None:
        """Raise ConfigError for codes that do not lie on the sphere."""
        if not getattr(model.posterior, "on_sphere", False):
            raise ConfigError("prior sphere needs codes on the sphere: use posterior vmf, or prior standard")

    def build(self, latent: int, sizes: Sizes, rngs: Any) -> Held:
        """Return the module."""
        return Held(self)

    def __call__(self, model: Any, label: Any, key: Any) -> UniformSphere:
        """Return the uniform distribution."""
        return UniformSphere(model.latent)
