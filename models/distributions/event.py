"""What every density sums over: the batch is the first axis, the event is all the others."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Event = Float[Array, "batch *event"]
PerExample = Float[Array, " batch"]


def sum_event(x: Event) -> PerExample:
    """Sum over every axis but the first."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))
