"""A config inside a Flax module: its floats may be traced or stacked over runs, and are never trained."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


class Setting(nnx.Variable):
    """A float of a config: may be traced or stacked over runs, is never trained."""


class Held(nnx.Module):
    """The module of a part without parameters: it holds the config and calls it; without arguments, returns it."""

    def __init__(self, cfg: Any):
        leaves, self._tree = jax.tree.flatten(cfg)
        self._leaves = nnx.List([Setting(jnp.asarray(leaf, float)) for leaf in leaves])

    def __call__(self, *args: Any) -> Any:
        """Return the config, its floats as they were given (possibly traced), or its value at `args`."""
        cfg = jax.tree.unflatten(self._tree, [leaf[...] for leaf in self._leaves])
        return cfg(*args) if args else cfg
