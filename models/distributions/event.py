"""What every density sums over: the batch is the first axis, the event is all the others."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Event = Float[Array, "batch *event"]
PerExample = Float[Array, " batch"]
Mask = Bool[Array, "batch *event"] | None


def unit_of(p: Any) -> str:
    """Return what minus log_prob of a distribution over examples is made of.

    "bits": probabilities of discrete values, so nats and bits are those of a code for the data; "density": of values in
    their own units, so it may be negative and compares only with densities of the same values; "cross_entropy": of
    values that the distribution cannot draw, so it bounds nothing. A class says so by its property
    `unit`; by default a density.
    """
    return getattr(p, "unit", "density")


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
