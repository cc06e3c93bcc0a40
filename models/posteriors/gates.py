"""Points whose units are open or shut: thresholds and gates that are learned, for sparse dictionaries."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models import distributions
from models.config import config, setting
from models.distributions import at_least_float32
from models.networks.held import Held


@jax.custom_jvp
def opened(x: Array, threshold: Array, bandwidth: Array) -> Array:
    """Return 1 where x > threshold, else 0, with a gradient in the threshold alone: -1/bandwidth where x is near it.

    Rajamanoharan et al. 2024 (Jumping ahead), equation 11: the derivative of an expectation over x, estimated with the
    rectangle kernel of that width; the derivative of a single value would be 0.
    """
    return (x > threshold).astype(x.dtype)


@opened.defjvp
def _opened_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    x, threshold, bandwidth = primals
    near = (jnp.abs(x - threshold) < bandwidth / 2).astype(x.dtype)
    return opened(*primals), -near / bandwidth * tangents[1]


@jax.custom_jvp
def jump(x: Array, threshold: Array, bandwidth: Array) -> Array:
    """Return x where x > threshold, else 0; in the threshold its gradient is -threshold / bandwidth near it.

    The same paper, equation 10.
    """
    return jnp.where(x > threshold, x, 0)


@jump.defjvp
def _jump_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    x, threshold, bandwidth = primals
    near = (jnp.abs(x - threshold) < bandwidth / 2).astype(x.dtype)
    return jump(*primals), jnp.where(x > threshold, tangents[0], 0) - threshold / bandwidth * near * tangents[1]


@config
class JumpPosterior:
    """JumpReLU: a unit keeps its value above a threshold of its own, which is learned; with term sparsity l0."""

    threshold: float = setting(0.1, above=0)
    """of every unit at the start, in the units of the code"""
    bandwidth: float = setting(0.1, above=0)
    """width around the threshold in which examples move it, in the units of the code"""

    def numbers(self, latent: int) -> int:
        """Return `latent`."""
        return latent

    def build(self, latent: int, rngs: nnx.Rngs) -> "Jump":
        """Return the module."""
        return Jump(self, latent)


class Jump(nnx.Module):
    """The logarithms of the thresholds."""

    def __init__(self, cfg: JumpPosterior, latent: int):
        self.held = Held(cfg)
        self.log_threshold = nnx.Param(jnp.broadcast_to(jnp.log(jnp.asarray(cfg.threshold, float)), (latent,)))

    @property
    def threshold(self) -> Float[Array, " latent"]:
        """Return the thresholds."""
        return jnp.exp(at_least_float32(self.log_threshold[...]))

    def open(self, numbers: Float[Array, "batch latent"]) -> Float[Array, "batch latent"]:
        """Return which units are open, 1 or 0, with a gradient in the thresholds."""
        return opened(numbers, self.threshold[None], self.held().bandwidth)

    def __call__(self, numbers: Float[Array, "batch latent"], model: Any, key: Any) -> distributions.Point:
        """Return the point."""
        return distributions.Point(jump(numbers, self.threshold[None], self.held().bandwidth))


@config
class GatedPosterior:
    """A gate says whether a unit is used, another affine map of the same direction how much; with terms gate, sparsity.

    z = 1[g > 0] relu(exp(r) g + c), g the encoder's numbers (Rajamanoharan et al. 2024, Improving dictionary learning
    with gated sparse autoencoders, equations 6 and 7; weights shared but for r and c).
    """

    def numbers(self, latent: int) -> int:
        """Return `latent`."""
        return latent

    def build(self, latent: int, rngs: nnx.Rngs) -> "Gated":
        """Return the module."""
        return Gated(latent)


class Gated(nnx.Module):
    """r and c of every unit."""

    def __init__(self, latent: int):
        self.log_scale = nnx.Param(jnp.zeros(latent))
        self.bias = nnx.Param(jnp.zeros(latent))

    def gate(self, numbers: Float[Array, "batch latent"]) -> Float[Array, "batch latent"]:
        """Return relu(g): what opens the gates, and has their only gradient."""
        return jax.nn.relu(numbers)

    def __call__(self, numbers: Float[Array, "batch latent"], model: Any, key: Any) -> distributions.Point:
        """Return the point."""
        magnitude = jax.nn.relu(jnp.exp(at_least_float32(self.log_scale[...]))[None] * numbers + self.bias[...][None])
        return distributions.Point(jnp.where(numbers > 0, magnitude, 0))
