"""Functions that stay finite: log(1 + exp x) by one exponential and one logarithm, and bounds on log deviations."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LOWEST = -20.0  # std 2e-9
CODE_HIGHEST = 3.0  # of a posterior: variance 403, at most 200 nats of KL to a standard normal for its width
DATA_HIGHEST = 10.0  # of a likelihood, in units of scaled data: variance 5e8


def log1p_of_unit(e: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return log(1 + e) for 0 <= e <= 1, to rounding, as 2 atanh(s) with s = e / (2 + e) <= 1/3.

    In float32 the odd series up to s^15 is exact to rounding (the rest is below s 9^-8 / 17) and, being plain
    arithmetic, cheaper on a CPU than log1p.
    """
    if e.dtype != jnp.float32:
        return jnp.log1p(e)
    s = e / (2 + e)
    square = s * s
    series = jnp.full_like(s, 1 / 15)
    for power in (13, 11, 9, 7, 5, 3, 1):
        series = series * square + 1 / power
    return 2 * s * series


@jax.custom_jvp
def softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return log(1 + exp(x)): one exponential, one logarithm, finite with its gradient for every finite x."""
    return jnp.maximum(x, 0) + log1p_of_unit(jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # spelled out: JAX's derivatives of max and |.| at 0 do not add up to 1/2; the exponential serves both
    (x,) = primals
    e = jnp.exp(-jnp.where(x >= 0, x, -x))
    return jnp.maximum(x, 0) + log1p_of_unit(e), jnp.where(x >= 0, 1, e) / (1 + e) * tangents[0]


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
