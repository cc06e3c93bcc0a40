"""An inner autoencoder over the code: hierarchies from the bottom up, and second stages."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.batch import Sizes
from models.codes import draw
from models.config import config, setting
from models.distributions import Mask, Normal, PerExample
from models.distributions.finite import CODE_HIGHEST, DATA_HIGHEST, bounded
from models.networks.mlp import MLP
from models.priors.standard import standard_normal

Vector = Float[Array, "batch dims"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["inner", "key"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Marginal:
    """p(z) = ∫ p(z|w) p(w) dw of an inner model, known by a bound: log p(z|w) + log p(w) - log q(w|z), w ~ q(w|z).

    One draw w per z, by `key`. In an importance-weighted bound with a draw w for each z the weights are those of both
    levels together: the two-layer model of Burda et al. 2016. `inner` has encode, decode and prior.
    """

    inner: Any
    key: Any

    @property
    def mean(self) -> Vector:
        """Return the decoded mean of the inner prior, (1, dims)."""
        return self.inner.decode(self.inner.prior().mean).mean

    def sample(self, key: PRNGKeyArray) -> Vector:
        """Draw w, then z, (1, dims)."""
        k_w, k_z = jax.random.split(key)
        return self.inner.decode(self.inner.prior().sample(k_w)).sample(k_z)

    def log_prob(self, z: Vector, mask: Mask = None) -> PerExample:
        """Return the bound of every z, nats."""
        w, log_q = draw(self.inner.encode(z), self.key)
        return self.inner.decode(w).log_prob(z) + self.inner.prior().log_prob(w) - log_q


@config
class DeeperPrior:
    """An inner VAE over the code, trained with the rest: z from an inner code w."""

    units: int = setting(8, at_least=1)
    """units of the inner code"""
    hidden: int = setting(64, at_least=1)
    """width of the inner networks"""

    def build(self, latent: int, sizes: Sizes, rngs: nnx.Rngs) -> "Inner":
        """Return the module."""
        return Inner(latent, self.units, self.hidden, rngs=rngs)


class Inner(nnx.Module):
    """q(w|z) and p(z|w), normals of one hidden layer each, p(w) = N(0, I)."""

    def __init__(self, latent: int, units: int, hidden: int, *, rngs: nnx.Rngs):
        self.units = units
        self.encoder = MLP([latent, hidden, 2 * units], rngs=rngs)
        self.decoder = MLP([units, hidden, 2 * latent], rngs=rngs, small=True)

    def __call__(self, model: Any, label: Any, key: Any) -> Marginal:
        """Return the marginal; without a key its draws are those of a fixed one."""
        return Marginal(self, jax.random.key(0) if key is None else key)

    def encode(self, z: Vector) -> Normal:
        """Return q(w|z)."""
        mean, log_std = jnp.split(self.encoder(z), 2, axis=1)
        return Normal(mean, bounded(log_std, CODE_HIGHEST))

    def decode(self, w: Float[Array, "batch units"]) -> Normal:
        """Return p(z|w)."""
        mean, log_std = jnp.split(self.decoder(w), 2, axis=1)
        return Normal(mean, bounded(log_std, DATA_HIGHEST))

    def prior(self) -> Normal:
        """Return p(w)."""
        return standard_normal(self.units)
