"""Penalties on weights: kernels only, so biases and the scales of norms stay free."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def is_kernel(path: tuple[Any, ...]) -> bool:
    """Whether a path of `jax.tree_util` ends in a leaf named `kernel`."""
    names = [str(getattr(part, "key", getattr(part, "name", ""))) for part in path]
    return "kernel" in names


def weight_penalty(
    params: Any, l1: Float[Array, ""] | float = 0.0, l2: Float[Array, ""] | float = 0.0
) -> Float[Array, ""]:
    """Return l1 Σ |w| + l2 Σ w² over all kernels of `params` (as from `nnx.split(model, nnx.Param, ...)`).

    Summed in at least float32: thousands of small squares in bfloat16 add up to a few of them.
    """
    total = jnp.zeros(())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if is_kernel(path):
            leaf = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
            total = total + l1 * jnp.sum(jnp.abs(leaf)) + l2 * jnp.sum(jnp.square(leaf))
    return total
