"""A mixture of normals as the prior, trained with the rest."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models import distributions
from models.batch import Sizes
from models.config import ConfigError, config, setting
from models.distributions import at_least_float32


@config
class MixturePrior:
    """A mixture of normals whose weights, means and deviations are trained with the rest, or fitted to codes."""

    components: int = setting(10, at_least=1)
    """number of normals"""
    spread: float = setting(1.0, above=0)
    """standard deviation of their first means"""
    covariance: Literal["diagonal", "full"] = "diagonal"
    """diagonal: independent units in every normal; full: a covariance of its own for each"""

    def fits_data(self, examples: int, latent: int) -> None:
        """Raise ConfigError for more normals than training examples; the default serves any data."""
        if self.components > max(examples, type(self)().components):
            raise ConfigError(
                f"prior.components must be at most the {examples} training examples, got {self.components}"
            )

    def build(self, latent: int, sizes: Sizes, rngs: nnx.Rngs) -> "Normals | FullNormals":
        """Return the module: means drawn with `spread`, deviations 1, weights equal."""
        mean = self.spread * jax.random.normal(rngs.params(), (self.components, latent))
        if self.covariance == "full":
            return FullNormals(mean, jnp.zeros((self.components, latent, latent)), jnp.zeros(self.components))
        return Normals(mean, jnp.zeros((self.components, latent)), jnp.zeros(self.components))


class Normals(nnx.Module):
    """Means and log deviations (k, latent) and logits (k,) of a mixture; also what is fitted to codes afterwards."""

    def __init__(self, mean: Float[Array, "k latent"], log_std: Float[Array, "k latent"], logits: Float[Array, " k"]):
        self.mean, self.log_std, self.logits = nnx.Param(mean), nnx.Param(log_std), nnx.Param(logits)

    def __call__(self, model: Any, label: Any, key: Any) -> distributions.Mixture:
        """Return the mixture."""
        mean, log_std, logits = (at_least_float32(p[...]) for p in (self.mean, self.log_std, self.logits))
        return distributions.Mixture(logits, distributions.Normal(mean, log_std))


class FullNormals(nnx.Module):
    """Means (k, latent), factors (k, latent, latent) and logits (k,) of a mixture.

    A covariance is L Lᵀ, L the strictly lower part of a factor with the exponentials of its diagonal.
    """

    def __init__(
        self, mean: Float[Array, "k latent"], factor: Float[Array, "k latent latent"], logits: Float[Array, " k"]
    ):
        self.mean, self.factor, self.logits = nnx.Param(mean), nnx.Param(factor), nnx.Param(logits)

    def __call__(self, model: Any, label: Any, key: Any) -> distributions.Mixture:
        """Return the mixture."""
        mean, factor, logits = (at_least_float32(p[...]) for p in (self.mean, self.factor, self.logits))
        diagonal = jnp.exp(jnp.diagonal(factor, axis1=1, axis2=2))
        tril = jnp.tril(factor, -1) + diagonal[..., None] * jnp.eye(factor.shape[1], dtype=factor.dtype)[None]
        return distributions.Mixture(logits, distributions.FullNormal(mean, tril))
