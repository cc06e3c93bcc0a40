"""What the columns of a Jacobian are to each other and in themselves: orthogonal, or sparse."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.config import config, setting
from models.terms.geometry.halves import Half, of_pass, random_key, several, tall
from models.terms.geometry.volume import half_log_det


@config
class Orthogonal:
    """How far the columns J_i of the decoder's Jacobian at the codes are from orthogonal; 0 where they are.

    With G = JᵀJ. product: Σ_{i≠j} G_ij² (Wei et al. 2021, "Orthogonal Jacobian regularization", which takes finite
    differences). cosine: Σ_{i≠j} G_ij² / (G_ii G_jj), free of each unit's scale; zero columns count as 0.
    contrast: Σ_i log |J_i| - ½ log det G >= 0, nats, the independent-mechanism contrast (Gresele et al. 2021), not
    finite where J has not full rank.
    """

    weight: float = setting(1.0, at_least=0)
    """factor of the term"""
    form: Literal["product", "cosine", "contrast"] = "cosine"
    """product: squared inner products; cosine: squared cosines; contrast: in log-volumes"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the penalty; ConfigError for a code of one unit or a decoder narrower than its code."""
        half = of_pass(done, "decoder", "orthogonal")
        several(half, "orthogonal")
        tall(half, "orthogonal")
        return non_orthogonality(half.jacobians(), self.form)


def non_orthogonality(j: Float[Array, "batch m n"], form: str) -> Float[Array, " batch"]:
    """Return the penalty of each J; its forms are those of `Orthogonal`."""
    squares = jnp.sum(j * j, axis=1)
    if form == "contrast":
        return 0.5 * jnp.sum(jnp.log(squares), axis=1) - half_log_det(j)
    if form == "cosine":
        j = j * jnp.where(squares > 0, jax.lax.rsqrt(jnp.where(squares > 0, squares, 1)), 0)[:, None]
    g = jnp.swapaxes(j, 1, 2) @ j
    return jnp.sum(jnp.square(g * (1 - jnp.eye(g.shape[1], dtype=g.dtype))[None]), axis=(1, 2))


@config
class SparseJacobian:
    """Σ |J_ij| of each example, units of the output per unit of the input: few inputs act on few outputs.

    As between two sparse codes (Farnik et al. 2025, "Jacobian sparse autoencoders"), here between a half's input and
    output. probe: one column, drawn uniformly for each example, times their number: unbiased, one forward pass.
    """

    NAME = "sparse_jacobian"

    weight: float = setting(0.01, at_least=0)
    """factor of the term"""
    of: Half = "decoder"
    """whose Jacobian: encoder, decoder (at the codes), reconstruction"""
    way: Literal["exact", "probe"] = "exact"
    """exact: all of J; probe: one random column"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the sum of absolute entries of each example."""
        half = of_pass(done, self.of, "sparse_jacobian")
        if self.way == "exact":
            return jnp.sum(jnp.abs(half.jacobians()), axis=(1, 2))
        n, inputs = half.at.shape
        column = jax.random.randint(random_key(done, "sparse_jacobian"), (n,), 0, inputs)
        return inputs * jnp.sum(jnp.abs(half.push(jax.nn.one_hot(column, inputs, dtype=half.at.dtype))), axis=1)
