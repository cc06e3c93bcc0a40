"""A bound on log standard deviations, so that no finite input makes an infinite variance or KL."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LOWEST = -20.0  # std 2e-9
CODE_HIGHEST = 3.0  # of a posterior: variance 403, at most 200 nats of KL to a standard normal for its width
DATA_HIGHEST = 10.0  # of a likelihood, in units of scaled data: variance 5e8


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def bounded(log_std: Float[Array, "*shape"], highest: float) -> Float[Array, "*shape"]:
    """Return log_std cut to [-20, highest]; values within pass to the bit.

    The derivative is 1 everywhere: a value outside gets the gradient of the bound, so that it is pushed back in, where
    a plain cut would leave it without any.
    """
    return jnp.clip(log_std, LOWEST, highest)


@bounded.defjvp
def _bounded_jvp(highest: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return bounded(*primals, highest), tangents[0]
