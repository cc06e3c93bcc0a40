"""A normal moved along the dynamics of the model's own joint density."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.config import ConfigError, config, setting
from models.distributions import Mask, Normal, PerExample, at_least_float32
from models.distributions.finite import CODE_HIGHEST, bounded
from models.networks.held import Held
from models.priors.vamp import VampPrior

Vector = Float[Array, "batch dims"]
LEARNED = ("base", "x", "model", "log_step", "temper")


@functools.partial(jax.tree_util.register_dataclass, data_fields=LEARNED, meta_fields=["steps"])
@dataclasses.dataclass(frozen=True)
class Trajectory:
    """The end z of leapfrog steps from z_0 ~ base and a momentum r_0 ~ N(0, I / temper), under -log p(x, z) + |r|² / 2.

    log_step (dims,): log of the sizes of a step. temper β in (0, 1]: every step multiplies the momentum by the same
    factor, sqrt(β) in all; at 1 the map of (z, r) has |det| = 1. What a draw is weighed with is
    log base(z_0) + log N(r_0; 0, I / β) - (dims / 2) log β - log N(r; 0, I), nats: p(x, z) over it has the mean p(x).
    """

    base: Normal
    x: Array
    model: Any
    log_step: Array
    temper: Any
    steps: int

    def force(self, z: Vector) -> Vector:
        """Return ∂ log p(x, z) / ∂z of every example, the networks in evaluation mode, which keeps examples apart."""

        def log_joint(z: Array) -> Array:
            return jnp.sum(self.model.decode(z).log_prob(self.x) + self.model.prior().log_prob(z))

        return jax.grad(log_joint)(z)

    def move(self, z: Vector, momentum: Vector) -> tuple[Vector, Vector]:
        """Return code and momentum after the steps: half a kick, a drift by the moved momentum, half a kick."""
        step, cool = jnp.exp(self.log_step)[None], self.temper ** (0.5 / self.steps)
        force = self.force(z)
        for _ in range(self.steps):
            momentum = momentum + 0.5 * step * force
            z = z + step * momentum
            force = self.force(z)
            momentum = cool * (momentum + 0.5 * step * force)
        return z, momentum

    @property
    def mean(self) -> Vector:
        """Return the end of the path from the base's mean at rest (the mean itself has no formula)."""
        return self.move(self.base.mean, jnp.zeros_like(self.base.mean))[0]

    def sample(self, key: PRNGKeyArray) -> Vector:
        """Draw z."""
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[Vector, PerExample]:
        """Draw z with what it is weighed with, nats; the momentum is part of the draw."""
        k_code, k_momentum = jax.random.split(key)
        start = self.base.sample(k_code)
        unit = jax.random.normal(k_momentum, start.shape, start.dtype)
        z, momentum = self.move(start, unit * self.temper**-0.5)
        # log N(r_0; 0, I / β) - (dims / 2) log β = log N(unit; 0, I): the cooling undoes the warmer start
        kinetic = 0.5 * jnp.sum(momentum * momentum - unit * unit, axis=1)
        return z, self.base.log_prob(start) + kinetic

    def log_prob(self, z: Array, mask: Mask = None) -> PerExample:
        """Raise ConfigError."""
        raise ConfigError(
            "posterior hamiltonian weighs its own draws only: use Bound.gradient plain or piwae, or posterior normal"
        )


@config
class HamiltonianPosterior:
    """Leapfrog steps on log p(x, z) from a normal, with a momentum (Caterini et al. 2018, Hamiltonian VAE).

    Its density is that of code and momentum together, so its bound is one on log p(x) by one draw of both.
    """

    steps: int = setting(3, at_least=1)
    """leapfrog steps"""
    step: float = setting(0.05, above=0)
    """first size of a step, for every unit; then learned"""
    temper: float = setting(1.0, above=0, at_most=1)
    """inverse temperature at which the momentum starts; 1: no tempering"""

    def fits(self, model: Any) -> None:
        """Raise ConfigError for a model whose joint density takes more than x and z, or needs this posterior's own."""
        if model.labels != "none" or getattr(model.prior, "labelled", False):
            raise ConfigError("posterior hamiltonian follows log p(x, z) without labels: use labels none")
        if isinstance(model.prior, VampPrior):
            raise ConfigError("prior vamp needs a density at any code, hamiltonian has none: use prior mixture")

    def numbers(self, latent: int) -> int:
        """Return 2 per unit."""
        return 2 * latent

    def build(self, latent: int, rngs: Any) -> "Dynamics":
        """Return the module."""
        return Dynamics(self, latent)


class Dynamics(nnx.Module):
    """Step sizes by unit; `sees_example`: the flat example stands beside the numbers of the encoder."""

    sees_example = True

    def __init__(self, cfg: HamiltonianPosterior, latent: int):
        self.held, self.latent, self.steps = Held(cfg), latent, cfg.steps
        self.log_step = nnx.Param(jnp.log(cfg.step) + jnp.zeros(latent))

    def __call__(self, numbers: Float[Array, "batch numbers"], model: Any, key: Any) -> Trajectory:
        """Return the path: means, log standard deviations cut to [-20, 3], then the example."""
        n = self.latent
        base = Normal(numbers[:, :n], bounded(numbers[:, n : 2 * n], CODE_HIGHEST))
        x = numbers[:, 2 * n :].reshape(-1, *model.shape)
        return Trajectory(base, x, model, at_least_float32(self.log_step[...]), self.held().temper, self.steps)
