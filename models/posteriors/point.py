"""The posterior of a plain autoencoder."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models import distributions
from models.config import ConfigError, config, setting
from models.networks.held import Held
from models.networks.layers import activation


@config
class PointPosterior:
    """A plain autoencoder: the code is certain, without a density."""

    activation: str = "identity"
    """of the code: identity, or any activation, such as sigmoid for KL sparsity"""
    active: int = setting(0, at_least=0)
    """k-sparse: units that stay, the largest; the others are 0 (Makhzani & Frey 2014); 0: all stay"""
    among: Literal["code", "batch"] = "code"
    """code: so many of every code; batch: in training, so many times the batch of all its codes together, and after it
    all above the running mean of the least value that stayed (Bussmann et al. 2024, BatchTopK)"""

    def check(self) -> None:
        """Raise ConfigError for an unknown activation."""
        activation(self.activation)

    def numbers(self, latent: int) -> int:
        """Return `latent`; ConfigError where fewer units exist than are to stay."""
        if self.active > latent:
            raise ConfigError(f"posterior.active must be at most latent={latent}, got {self.active}")
        return latent

    def build(self, latent: int, rngs: Any) -> Any:
        """Return the module."""
        return BatchTop(self) if self.active and self.among == "batch" else Held(self)

    def __call__(self, numbers: Float[Array, "batch latent"], model: Any, key: Any) -> distributions.Point:
        """Return the point."""
        z = activation(self.activation)(numbers)
        if self.active:
            z = jnp.where(z >= self.smallest(z, training=key is not None), z, 0)
        return distributions.Point(z)

    def smallest(self, z: Float[Array, "batch latent"], training: bool) -> Float[Array, "rows 1"]:
        """Return the least value that stays, per code or for the batch (ties stay)."""
        if self.among == "code" or not training:
            return jax.lax.top_k(z, self.active)[0][:, -1:]
        return jax.lax.top_k(z.reshape(1, -1), self.active * z.shape[0])[0][:, -1:]


class BatchTop(nnx.Module):
    """The least value that stayed in training, a running mean over about 100 steps, and the steps."""

    def __init__(self, cfg: PointPosterior):
        self.held = Held(cfg)
        self.least, self.steps = nnx.BatchStat(jnp.zeros(())), nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(self, numbers: Float[Array, "batch latent"], model: Any, key: Any) -> distributions.Point:
        """Return the point; with a key the running mean moves."""
        cfg = self.held()
        z = activation(cfg.activation)(numbers)
        smallest = cfg.smallest(z, training=key is not None)
        if key is not None:
            steps = self.steps[...] + 1
            now = jax.lax.stop_gradient(smallest[0, 0]).astype(self.least[...].dtype)
            self.least[...] += (now - self.least[...]) / jnp.minimum(steps, 100)
            self.steps[...] = steps
        else:
            smallest = jnp.where(self.steps[...] > 0, self.least[...], smallest)
        return distributions.Point(jnp.where(z >= smallest, z, 0))
