"""Choosing a method: by name, by predicted cost ("auto") or by measurement ("autotune")."""

from collections.abc import Sequence
from typing import Any

from grads.flat import Problem
from grads.registry import Method, UnsupportedMethodError, get_method, methods


class MemoryLimitError(ValueError):
    """No method, at any chunk size, meets the memory limit."""


def choose(problem: Problem, method: str | Method, constants: Sequence[Any], leaves: Sequence[Any]) -> Method:
    """Return the method to use."""
    if method not in ("auto", "autotune"):
        chosen = get_method(method)
        reason = chosen.supports(problem)
        if reason is not None:
            raise UnsupportedMethodError(
                f"method {chosen.name!r} cannot differentiate this function: {reason}"
            )
        return chosen
    rows = [
        (get_method(name).cost(problem), name) for name in methods() if not get_method(name).supports(problem)
    ]
    return get_method(min((r for r in rows if r[0] is not None), key=lambda r: r[0].seconds)[1])
