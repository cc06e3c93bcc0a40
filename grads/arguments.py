"""Checks of what a user asks for, the same in every function: one exception that names the value and the way out."""

import difflib
import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

__all__ = ["callable_", "count", "hint", "needs_forward", "numbers_of", "one_of", "real_leaves"]


def callable_(fun: Any, name: str) -> None:
    """Raise TypeError unless `fun` can be called."""
    if not callable(fun):
        raise TypeError(f"{name} differentiates a function, got {fun!r}")


@contextmanager
def needs_forward(way: str) -> Iterator[None]:
    """Say the way out where a function in the block has no forward derivative (a custom_vjp has none): a TypeError."""
    try:
        yield
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        raise TypeError(f"a custom_vjp has no forward derivative: {way}") from error


def count(name: str, value: Any) -> None:
    """Raise ValueError unless the value is None or a positive integer."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1):
        raise ValueError(f"{name} must be a positive integer or None, got {value!r}")


def one_of(what: str, value: Any, known: Iterable[str]) -> None:
    """Raise ValueError, with the nearest names, unless the value is one of `known`."""
    known = list(known)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"unknown {what} {value!r}{hint(value, known)} there are: {', '.join(known)}")


def hint(value: Any, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" with the nearest names, or ";" where none is near."""
    near = difflib.get_close_matches(value.lower(), list(known), n=2, cutoff=0.4) if isinstance(value, str) else []
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ";"


def numbers_of(argnums: Any, positional: int) -> tuple[int, ...]:
    """Return argnums as numbers from 0; TypeError unless integers, ValueError out of range, twice or none."""
    numbers = tuple(argnums) if isinstance(argnums, (tuple, list)) else (argnums,)
    for i in numbers:
        if isinstance(i, bool) or not isinstance(i, (int, np.integer)):
            raise TypeError(f"argnums must be an int or a tuple of ints, got {argnums!r}")
        if not -positional <= i < positional:
            raise ValueError(
                f"argnums={i} is out of range: the function was called with {positional} positional arguments"
            )
    numbers = tuple(operator.index(i) % positional for i in numbers)
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"argnums={argnums!r} names an argument twice")
    if not numbers:
        raise ValueError(f"argnums={argnums!r} names no argument to differentiate")
    return numbers


def real_leaves(x: PyTree, name: str) -> Sequence[Any]:
    """Return the leaves of x; raise TypeError unless all are real floating point arrays or numbers."""
    leaves = jax.tree.leaves(x)
    for leaf in leaves:
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, float, int, complex)):
            raise TypeError(f"{name} needs arrays and numbers, got {leaf!r} of type {type(leaf).__name__}")
        kind = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
        if not jnp.issubdtype(kind, jnp.floating):
            way = "use jacobian(..., holomorphic=True)" if jnp.issubdtype(kind, jnp.complexfloating) else "convert it"
            raise TypeError(f"{name} needs real floating point inputs, got dtype {kind}: {way}")
    return leaves
