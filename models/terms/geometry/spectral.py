"""The largest singular value of a Jacobian: how much a small step can be stretched."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.config import config, setting
from models.terms.geometry.halves import Half, Map, of_pass, random_key


@config
class Spectral:
    """σ_max(J)² of each example by power iteration, squared units of the output per squared unit of the input.

    The local Lipschitz constant, squared. v <- JᵀJ v / |JᵀJ v| without a gradient, then |J v|²: a lower bound that
    rises with the steps, whose gradient is exact where v is the singular vector (Yoshida & Miyato 2017 for matrices).
    """

    weight: float = setting(0.1, at_least=0)
    """factor of the term"""
    of: Half = "decoder"
    """whose Jacobian: encoder, decoder (at the codes), reconstruction"""
    steps: int = setting(3, at_least=1)
    """power iterations, a forward and a reverse pass each"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the bound of each example."""
        half = of_pass(done, self.of, "spectral")
        v = jax.lax.stop_gradient(direction(half, random_key(done, "spectral"), self.steps))
        return jnp.sum(jnp.square(half.push(v)), axis=1)


def direction(half: Map, key: Any, steps: int) -> Float[Array, "batch inputs"]:
    """Return a unit vector of each example after `steps` power iterations; where J is 0 it stays as drawn."""

    def unit(v: Array, otherwise: Array) -> Array:
        length = jnp.linalg.norm(v, axis=1, keepdims=True)
        return jnp.where(length > 0, v / jnp.where(length > 0, length, 1), otherwise)

    v = jax.random.normal(key, half.at.shape, half.at.dtype)
    v = unit(v, v)
    for _ in range(steps):
        v = unit(half.pull(half.push(v)), v)
    return v
