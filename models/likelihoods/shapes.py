"""Shapes of what passes through a likelihood."""

from jaxtyping import Array, Float

Out = Float[Array, "batch *event channels"]
Mean = Float[Array, "*event"]
Bias = Float[Array, "*event channels"]
Scale = Float[Array, ""] | None
