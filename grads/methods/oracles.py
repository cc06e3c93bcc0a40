"""Methods that need no derivative rules (the oracles), and the loop that every textbook starts from.

`finite_difference`: (f(x + h e_j) - f(x - h e_j)) / 2h, error O(h^2) + O(eps / h), so h = eps^(1/3) max(1,
|x_j|). `complex_step`: Im f(x + i h e_j) / h with h = 1e-20 in float64: no cancellation, exact to rounding
for analytic functions (Squire & Trapp 1998; Martins, Sturdza & Alonso 2003). `naive_loop`: one jvp per input
element, one after the other, the function evaluated anew each time.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from grads.calls.problem import Problem
from grads.methods.plain import supports_forward
from grads.methods.registry import register_method
from grads.programs.complex_step import complex_evaluate, unsupported

__all__: list[str] = []


def _real(problem: Problem) -> str | None:
    return "the values are complex: use 'fwd' or 'rev'" if problem.is_complex else None


def _columns(column: Callable, problem: Problem, leaves: Any) -> list:
    """Map `column(e_j)` -> flat derivative over the basis, one or `chunk_size` at a time; cut into blocks."""
    flat, _ = ravel_pytree(tuple(leaves))
    basis = jnp.eye(flat.size, dtype=flat.dtype)
    matrix = jax.lax.map(column, basis, batch_size=problem.options.chunk_size).T
    blocks, row = [], 0
    for out in problem.outputs:
        line, at = [], 0
        for leaf in leaves:
            part = matrix[row : row + out.size, at : at + leaf.size]
            line.append(part.reshape(*out.shape, *leaf.shape))
            at += leaf.size
        blocks.append(line)
        row += out.size
    return blocks


def _flat(problem: Problem, constants: Any, leaves: Any) -> tuple[Callable, jax.Array]:
    flat, unravel = ravel_pytree(tuple(leaves))
    return (lambda f: ravel_pytree(problem.bind(constants)(*unravel(f)))[0]), flat


def _build_naive(problem: Problem) -> Callable:
    def evaluate(constants: Any, leaves: Any) -> tuple[list, list]:
        fun, flat = _flat(problem, constants, leaves)
        column = lambda e: jax.jvp(fun, (flat,), (e,))[1]
        return list(problem.bind(constants)(*leaves)), _columns(column, problem, leaves)

    return evaluate


def _build_difference(problem: Problem) -> Callable:
    def evaluate(constants: Any, leaves: Any) -> tuple[list, list]:
        fun, flat = _flat(problem, constants, leaves)
        steps = jnp.finfo(flat.dtype).eps ** (1 / 3) * jnp.maximum(1, jnp.abs(flat))

        def column(e: jax.Array) -> jax.Array:
            up, down = flat + steps * e, flat - steps * e
            return (fun(up) - fun(down)) / jnp.sum(up - down)  # the step that rounding left

        return list(problem.bind(constants)(*leaves)), _columns(column, problem, leaves)

    return evaluate


def _build_complex(problem: Problem) -> Callable:
    graph: Any = problem.graph

    def evaluate(constants: Any, leaves: Any) -> tuple[list, list]:
        unravel = ravel_pytree(tuple(leaves))[1]
        h = 1e-20

        def column(e: jax.Array) -> jax.Array:
            shifted = [jax.lax.complex(x, h * d) for x, d in zip(leaves, unravel(e), strict=True)]
            outs = complex_evaluate(graph, constants, shifted)[: len(problem.outputs)]
            slopes = [jnp.imag(y) if jnp.iscomplexobj(y) else jnp.zeros(jnp.shape(y)) for y in outs]
            return jnp.concatenate([jnp.ravel(s) for s in slopes]) / h

        return list(problem.bind(constants)(*leaves)), _columns(column, problem, leaves)

    return evaluate


def _supports_complex(problem: Problem) -> str | None:
    if any(a.dtype.itemsize < 4 for a in problem.inputs):
        return "half precision has no complex numbers: use 'fwd' or 'rev'"
    name = unsupported(problem.graph.eqns)
    found = f"{name} has no complex step here: use 'finite_difference' or 'fwd'" if name else None
    return _real(problem) or found


register_method("naive_loop", supports=supports_forward, cost=lambda p: None, build=_build_naive)
register_method(
    "finite_difference", supports=_real, cost=lambda p: None, build=_build_difference, exact=False
)
register_method("complex_step", supports=_supports_complex, cost=lambda p: None, build=_build_complex)
