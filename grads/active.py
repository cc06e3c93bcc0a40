"""The Jacobian between the active entries of two sparse codes.

A sparse code of 2,048 features has, say, 32 that are not zero. The block J[i, j] = d fun(x)_i / d x_j of the active i
and j is 32 x 32, and says all there is: another output is zero around x, another input is off. It is exact for any
function, and only what is selected is differentiated: rows of the last weight matrix, columns of the first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Integer

from grads import arguments
from grads.jacobian import value_and_jacobian
from grads.methods.registry import Method


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ActiveBlock:
    """values[a, b] = d fun(x)[rows[a]] / d x[columns[b]], of the raveled output and input."""

    values: Inexact[Array, "r c"]
    rows: Integer[Array, " r"]
    columns: Integer[Array, " c"]


def active_block(
    fun: Callable[[Array], Array],
    x: Any,
    *,
    rows: Any,
    columns: Any,
    method: str | Method = "auto",
) -> ActiveBlock:
    """Return the block of the Jacobian of `fun` at x between some outputs (rows) and some inputs (columns).

    x               an array of floats
    rows, columns   places in the raveled output and input, or a number k: the k largest magnitudes of fun(x), of x,
                    in falling order. Where fewer are nonzero, places of zeros follow
    method          as in `jacobian`

    Under `jit` and `vmap` places may be traced. Raises TypeError and ValueError for an x or places that cannot be used.
    """
    arguments.callable_(fun, "active_block")
    x = jnp.asarray(x)
    arguments.real_leaves(x, "active_block")
    flat = x.reshape(-1)
    there = _places("columns", columns, flat)
    shape = jax.eval_shape(fun, x)
    if not isinstance(shape, jax.ShapeDtypeStruct) or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise TypeError(f"active_block needs a function that returns one array of floats, got {shape}")

    def inner(part: Array) -> tuple[Array, Array]:
        y = fun(flat.at[there].set(part, mode="drop").reshape(x.shape)).reshape(-1)
        here = _places("rows", rows, jax.lax.stop_gradient(y))
        return y[here], here

    (_, here), values = value_and_jacobian(inner, method=method, has_aux=True)(flat[there])
    return ActiveBlock(values, here, there)


def _places(name: str, given: Any, values: Array) -> Array:
    """The places that are meant, as an array of integers within the size of `values`."""
    if isinstance(given, int) and not isinstance(given, bool):
        if not 0 < given <= values.size:
            raise ValueError(f"{name}={given}: there are {values.size} entries to choose from")
        return jax.lax.top_k(jnp.abs(values), given)[1]
    places = jnp.asarray(given)
    if places.ndim != 1 or not jnp.issubdtype(places.dtype, jnp.integer):
        raise TypeError(f"{name} is a number of entries or a vector of places, got {given!r}")
    if not isinstance(places, jax.core.Tracer) and places.size:
        for place in (int(places.min()), int(places.max())):
            if not 0 <= place < values.size:
                raise ValueError(f"{name} holds place {place}, and there are {values.size} entries")
    return places
