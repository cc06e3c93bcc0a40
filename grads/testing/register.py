"""What a known problem is, and the table that keeps them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["BUILDERS", "KnownProblem", "register_problem"]

Build = Callable[[np.random.Generator, Any], tuple]


class KnownProblem(NamedTuple):
    """A function, arguments and the formula of its derivative.

    `jacobian(*args)` is d fun / d args[0]; with the tag `hessian`, `second(*args)` is its second derivative.
    """

    name: str
    fun: Callable[..., Any]
    args: tuple[Any, ...]
    jacobian: Callable[..., Any]
    tags: frozenset[str]
    second: Callable[..., Any] | None = None


BUILDERS: dict[str, tuple[Build, frozenset[str]]] = {}


def register_problem(name: str, *tags: str) -> Callable[[Build], Build]:
    """Decorate a builder `(rng, dtype) -> (fun, args, jacobian[, second])` so that the catalogue holds it."""

    def keep(build: Build) -> Build:
        if name in BUILDERS:
            raise ValueError(f"a problem named {name!r} is registered already")
        BUILDERS[name] = (build, frozenset(tags))
        return build

    return keep
