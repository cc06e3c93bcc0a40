"""Activations by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.config import ConfigError, nearest

Values = Float[Array, "batch *features"]


def identity(x: Values) -> Values:
    """Return x."""
    return x


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "identity": identity,
    "leaky_relu": jax.nn.leaky_relu,
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "sin": jnp.sin,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


def activation(name: str) -> Callable[[Array], Array]:
    """Return the activation of that name; ConfigError, naming the nearest, for an unknown one."""
    if name not in ACTIVATIONS:
        close = ", ".join(nearest(name, ACTIVATIONS))
        raise ConfigError(f"unknown activation {name!r}; nearest: {close}")
    return ACTIVATIONS[name]
