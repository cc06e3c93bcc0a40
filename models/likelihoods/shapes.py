"""Shapes of what passes through a likelihood, and the number of its levels."""

from jaxtyping import Array, Float

from models.config import ConfigError

Out = Float[Array, "batch *event channels"]
Mean = Float[Array, "*event"]
Bias = Float[Array, "*event channels"]
Scale = Float[Array, ""] | None


def check_levels(levels: int) -> None:
    """Raise ConfigError for one level: nothing is left to model."""
    if levels == 1:
        raise ConfigError("levels must be at least 2, or 0 for those of the data, got 1")
