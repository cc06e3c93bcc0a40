"""A bound on log standard deviations, so that no finite input makes an infinite variance or KL."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LOWEST, HIGHEST = -20.0, 10.0  # log std: variances between 4e-18 and 5e8, far from float32's ends with all their sums


@jax.custom_jvp
def bounded(log_std: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return log_std cut to [-20, 10]; values within pass to the bit.

    The derivative is 1 everywhere: a value outside gets the gradient of the bound, so that it is pushed back in, where
    a plain cut would leave it without any.
    """
    return jnp.clip(log_std, LOWEST, HIGHEST)


@bounded.defjvp
def _bounded_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return bounded(*primals), tangents[0]
