"""The plain methods: every basis vector through the whole function, forward or reverse, at once or in chunks.

`fwd`: J e_j for all columns j (one linearisation, one vmap). `rev`: e_i^T J for all rows i. The chunked forms
linearise once and run `lax.map` over groups of basis vectors, so the memory of one group is reused by the
next.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from grads.calls.problem import Problem, primitive_names
from grads.costs import work as costs
from grads.methods.registry import Cost, register_method

CALLBACKS = {"pure_callback", "io_callback"}
WITH_RULES = frozenset({"custom_jvp_call", "custom_vjp_call"})
FORWARD_ONLY = {"while"}
REVERSE_ONLY = {"custom_vjp_call", "custom_vjp_call_jaxpr"}


def basis(avals: Sequence[Any], start: Any, count: int) -> list[jax.Array]:
    """Rows start..start+count of the identity over the concatenated leaves, split into leaves
    (zero past it).
    """
    rows = start + jnp.arange(count)
    out, offset = [], 0
    for a in avals:
        n = math.prod(a.shape)
        hot = rows[:, None] - offset == jnp.arange(n)[None, :]
        out.append(hot.astype(a.dtype).reshape(count, *a.shape))
        offset += n
    return out


def identity(avals: Sequence[Any]) -> list[jax.Array]:
    """The whole identity over the concatenated leaves, split into leaves."""
    return basis(avals, 0, sum(math.prod(a.shape) for a in avals))


def no_derivative(problem: Problem) -> str | None:
    """A call of Python on the way of the derivative has none."""
    for e in problem.graph.body:
        found = primitive_names(e, WITH_RULES) & CALLBACKS
        if found and any(o in problem.graph.active for o in e.outvars):
            return (
                f"{sorted(found)[0]} has no derivative: wrap it in jax.custom_jvp or jax.custom_vjp, "
                "or use 'finite_difference'"
            )
    return None


def supports_forward(problem: Problem) -> str | None:
    """A custom_vjp has no forward derivative, a callback none."""
    if reason := no_derivative(problem):
        return reason
    found = problem.primitives() & REVERSE_ONLY
    return f"{sorted(found)[0]} has no forward derivative: use 'rev' or 'rev_chunked'" if found else None


def supports_reverse(problem: Problem) -> str | None:
    """A while loop of unknown length has no reverse derivative; a complex output needs two
    rows per element.
    """
    if reason := no_derivative(problem):
        return reason
    found = problem.primitives() & FORWARD_ONLY
    if found:
        return (
            "a while loop of unknown length has no reverse derivative: use 'fwd', or lax.scan in the function"
        )
    if problem.is_complex and not problem.options.holomorphic:
        if any(jnp.issubdtype(a.dtype, jnp.complexfloating) for a in problem.outputs):
            return "reverse mode needs real outputs (or holomorphic=True): use 'fwd'"
    return None


def _primal(problem: Problem, constants: Sequence[Any]) -> Callable:
    fun = problem.bind(constants)
    return jax.checkpoint(fun) if problem.options.remat else fun


def _split(matrix: jax.Array, avals: Sequence[Any], axis: int) -> list[jax.Array]:
    """Split one raveled axis (first or last) of an array into the shapes of the leaves."""
    cuts = list(itertools.accumulate(math.prod(a.shape) for a in avals))[:-1]
    parts = jnp.split(matrix, cuts, axis=axis) if cuts else [matrix]
    shape = (lambda p, a: (*a.shape, *p.shape[1:])) if axis == 0 else (lambda p, a: (*p.shape[:-1], *a.shape))
    return [p.reshape(shape(p, a)) for p, a in zip(parts, avals, strict=True)]


def build_forward(problem: Problem) -> Callable:
    """All columns at once."""

    def evaluate(constants, leaves):
        outs, push = jax.linearize(_primal(problem, constants), *leaves)
        columns = jax.vmap(lambda *t: push(*t), out_axes=-1)(*identity(problem.inputs))
        return outs, [_split(c, problem.inputs, -1) for c in columns]

    return evaluate


def build_reverse(problem: Problem) -> Callable:
    """All rows at once."""

    def evaluate(constants, leaves):
        outs, pull = jax.vjp(_primal(problem, constants), *leaves)
        rows = jax.vmap(lambda *ct: pull(tuple(ct)))(*identity(problem.outputs))
        blocks = [_split(r, problem.outputs, 0) for r in rows]
        return outs, [list(b) for b in zip(*blocks, strict=True)]

    return evaluate


def chunks(total: int, chunk: int) -> tuple[int, int]:
    """(number of chunks, size of a chunk) that cover `total` evenly with at most `chunk` each."""
    count = -(-total // max(1, min(chunk, total)))
    return count, -(-total // count)


def _mapped(body: Callable, total: int, chunk: int) -> Any:
    """Stack body(start, count) over chunks with lax.map; drop the padding of the last chunk."""
    count, width = chunks(total, chunk)
    if count == 1:
        return body(0, total)
    stacked = jax.lax.map(lambda i: body(i * width, width), jnp.arange(count))
    return jax.tree.map(lambda a: a.reshape(count * width, *a.shape[2:])[:total], stacked)


def mapped(fun: Callable, stack: Sequence[jax.Array], chunk: int | None) -> Any:
    """fun(*stack) over the leading axis in groups of `chunk` (all at once when None)."""
    total = stack[0].shape[0]
    count, width = chunks(total, chunk or total)
    if count == 1:
        return fun(*stack)
    pad = [jnp.pad(a, [(0, count * width - total)] + [(0, 0)] * (a.ndim - 1)) for a in stack]
    parts = [a.reshape(count, width, *a.shape[1:]) for a in pad]
    out = jax.lax.map(lambda xs: fun(*xs), parts)
    return jax.tree.map(lambda a: a.reshape(count * width, *a.shape[2:])[:total], out)


def build_forward_chunked(problem: Problem) -> Callable:
    """Linearise once, then groups of columns."""
    chunk = problem.options.chunk_size or costs.default_chunk(problem, "fwd")

    def evaluate(constants, leaves):
        outs, push = jax.linearize(_primal(problem, constants), *leaves)
        columns = _mapped(lambda s, c: jax.vmap(push)(*basis(problem.inputs, s, c)), problem.n, chunk)
        return outs, [_split(jnp.moveaxis(c, 0, -1), problem.inputs, -1) for c in columns]

    return evaluate


def build_reverse_chunked(problem: Problem) -> Callable:
    """One vjp, then groups of rows."""
    chunk = problem.options.chunk_size or costs.default_chunk(problem, "rev")

    def evaluate(constants, leaves):
        outs, pull = jax.vjp(_primal(problem, constants), *leaves)
        pull_rows = jax.vmap(lambda *ct: pull(tuple(ct)))
        rows = _mapped(lambda s, c: pull_rows(*basis(problem.outputs, s, c)), problem.m, chunk)
        blocks = [_split(r, problem.outputs, 0) for r in rows]
        return outs, [list(b) for b in zip(*blocks, strict=True)]

    return evaluate


def _cost(direction: str, chunked: bool) -> Callable[[Problem], Cost]:
    return lambda problem: costs.plain_cost(problem, direction, chunked)


register_method("fwd", supports=supports_forward, cost=_cost("fwd", False), build=build_forward)
register_method("rev", supports=supports_reverse, cost=_cost("rev", False), build=build_reverse)
register_method(
    "fwd_chunked", supports=supports_forward, cost=_cost("fwd", True), build=build_forward_chunked
)
register_method(
    "rev_chunked", supports=supports_reverse, cost=_cost("rev", True), build=build_reverse_chunked
)
