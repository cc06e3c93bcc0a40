"""Finite scalar quantisation: every unit rounded to a few levels, no codebook."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.config import config, setting
from models.distributions import Quantised
from models.priors.codes import needs_codes


@config
class FSQPosterior:
    """Every code unit, bounded by tanh, is rounded to one of `levels` values (Mentzer et al. 2024)."""

    levels: int = setting(5, at_least=3)
    """values of every unit; a code is one of levels ** latent"""

    discrete = True

    def fits(self, model: Any) -> None:
        """Raise ConfigError for a prior that is not over codes."""
        needs_codes(model, "fsq")

    def numbers(self, latent: int) -> int:
        """Return `latent`."""
        return latent

    def build(self, latent: int, rngs: Any) -> "Rounding":
        """Return the module."""
        return Rounding(self.levels, latent)


class Rounding(nnx.Module):
    """Levels at -1 .. 1 (an even number of them from -1 to below 1); `places` units of `size` levels are a code."""

    def __init__(self, levels: int, latent: int):
        self.size, self.places = levels, latent

    def lookup(self, indices: Array) -> Float[Array, "batch latent"]:
        """Return the codes of indices (batch, latent)."""
        half = self.size // 2
        return (indices - half) / half

    def chosen(self, z: Float[Array, "batch latent"]) -> Float[Array, "batch places size"]:
        """Return the levels of codes, one-hot."""
        half = self.size // 2
        return jax.nn.one_hot(jnp.round(z * half).astype(int) + half, self.size, dtype=z.dtype)

    def __call__(self, numbers: Float[Array, "batch latent"], model: Any, key: Any) -> Quantised:
        """Return the rounded code, its gradient that of the bounded numbers (straight through)."""
        half, offset = 0.5 * (self.size - 1), 0.5 * (self.size % 2 == 0)
        # the shift puts 0 on a level where their number is even
        bounded = half * (1 + 1e-3) * jnp.tanh(numbers + jnp.arctanh(offset / (half * (1 + 1e-3)))) - offset
        # the bound is a little beyond the outer levels; of a thousand levels that is half a level
        rounded = jnp.clip(jnp.round(bounded), -half - offset, half - offset)
        scale = self.size // 2
        through = (bounded + jax.lax.stop_gradient(rounded - bounded)) / scale
        commitment = jnp.sum(jnp.square((bounded - jax.lax.stop_gradient(rounded)) / scale), axis=1)
        return Quantised(through, rounded.astype(int) + scale, commitment, None)
