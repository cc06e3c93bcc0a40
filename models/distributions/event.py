"""What every density sums over: the batch is the first axis, the event is all the others."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Event = Float[Array, "batch *event"]
PerExample = Float[Array, " batch"]
Mask = Bool[Array, "batch *event"] | None


def at_least_float32(x: Array) -> Array:
    """Return x, in float32 where it comes in a shorter dtype."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def sum_event(terms: Event, mask: Mask = None) -> PerExample:
    """Sum over every axis but the first, over what was observed: the one place where a mask acts.

    In at least float32: a sum of 784 terms in bfloat16 would keep two digits.
    """
    terms = at_least_float32(terms)
    if mask is not None:
        terms = jnp.where(mask, terms, 0)
    return jnp.sum(terms, axis=tuple(range(1, terms.ndim)))
