"""Methods that need no derivative rules (the oracles), and the loop that every textbook starts from.

`finite_difference`: (f(x + h e_j) - f(x - h e_j)) / 2h, error O(h^2) + O(eps / h), so h = eps^(1/3) max(1, |x_j|).
`complex_step`: Im f(x + i h e_j) / h with h = 1e-20 in float64: no cancellation, exact to rounding for analytic
functions (Squire & Trapp 1998; Martins, Sturdza & Alonso 2003). `naive_loop`: one jvp per input element, one after the
other, the function evaluated anew each time.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp

from grads.calls.forms import blocks_of
from grads.calls.problem import FlatProblem
from grads.methods.registry import register_method
from grads.programs.complex_step import complex_evaluate, unsupported

__all__: list[str] = []


def _real(problem: FlatProblem) -> str | None:
    return "the values are complex: use 'fwd' or 'rev'" if problem.is_complex else None


def _column_by_column(column_of: Callable) -> Callable:
    """Return `build` for `column_of(problem, constants, leaves)` -> (e_j -> flat derivative along it): columns one or
    `chunk_size` at a time.
    """

    def build(problem: FlatProblem) -> Callable:
        def evaluate(constants: Sequence[Any], leaves: Sequence[Any]) -> tuple[list, list]:
            _, flat, _ = problem.raveled(constants, leaves)
            units = jnp.eye(flat.size, dtype=flat.dtype)
            column = column_of(problem, constants, leaves)
            matrix = jax.lax.map(column, units, batch_size=problem.options.chunk_size).T
            return list(problem.bind(constants)(*leaves)), blocks_of(matrix, problem)

        return evaluate

    return build


def _naive(problem: FlatProblem, constants: Any, leaves: Any) -> Callable:
    fun, flat, _ = problem.raveled(constants, leaves)
    return lambda e: jax.jvp(fun, (flat,), (e,))[1]


def _difference(problem: FlatProblem, constants: Any, leaves: Any) -> Callable:
    fun, flat, _ = problem.raveled(constants, leaves)
    steps = jnp.finfo(flat.dtype).eps ** (1 / 3) * jnp.maximum(1, jnp.abs(flat))

    def column(e: jax.Array) -> jax.Array:
        up, down = flat + steps * e, flat - steps * e
        return (fun(up) - fun(down)) / jnp.sum(up - down)  # the step that rounding left

    return column


def _complex_step(problem: FlatProblem, constants: Any, leaves: Any) -> Callable:
    _, _, unravel = problem.raveled(constants, leaves)
    graph: Any = problem.graph
    h = 1e-20

    def column(e: jax.Array) -> jax.Array:
        shifted = [jax.lax.complex(x, h * d) for x, d in zip(leaves, unravel(e), strict=True)]
        outs = complex_evaluate(graph, constants, shifted)[: len(problem.outputs)]
        slopes = [jnp.imag(y) if jnp.iscomplexobj(y) else jnp.zeros(jnp.shape(y)) for y in outs]
        return jnp.concatenate([jnp.ravel(s) for s in slopes]) / h

    return column


def _supports_complex(problem: FlatProblem) -> str | None:
    if any(a.dtype.itemsize < 4 for a in problem.inputs):
        return "half precision has no complex numbers: use 'fwd' or 'rev'"
    name = unsupported(problem.graph.eqns)
    found = f"{name} has no complex step here: use 'finite_difference' or 'fwd'" if name else None
    return _real(problem) or found


for name, supports, column_of, exact in (
    ("naive_loop", attrgetter("no_forward"), _naive, True),
    ("finite_difference", _real, _difference, False),
    ("complex_step", _supports_complex, _complex_step, True),
):
    build = _column_by_column(column_of)
    register_method(name, supports=supports, cost=lambda problem: None, build=build, exact=exact, automatic=False)
