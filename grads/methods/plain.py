"""The plain methods: every basis vector through the whole function, forward or reverse, at once or in chunks.

`fwd`: J e_j for all columns j (one linearisation, one vmap). `rev`: e_i^T J for all rows i. The chunked forms linearise
once and run `lax.map` over groups of basis vectors, so the memory of one group is reused by the next.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from grads.calls.forms import cut
from grads.calls.problem import FlatProblem
from grads.costs.cost import default_chunk, plain_cost
from grads.methods.registry import register_method
from grads.programs.graph import varying


def unit_vectors(avals: Sequence[Any], start: Any = 0, count: int | None = None) -> list[jax.Array]:
    """Rows start..start+count (default: all) of the identity over the concatenated leaves, split into leaves (zero past
    it).
    """
    sizes = [math.prod(a.shape) for a in avals]
    count = sum(sizes) if count is None else count
    out, offset = [], 0
    for a, n in zip(avals, sizes, strict=True):  # lax alone: every call of jnp is traced as a program of its own
        rows, columns = (lax.broadcasted_iota(jnp.int32, (count, n), axis) for axis in (0, 1))
        moved = rows if isinstance(start, int) and start == offset else rows + jnp.asarray(start - offset, jnp.int32)
        hot = lax.convert_element_type(lax.eq(moved, columns), a.dtype)
        out.append(hot if len(a.shape) == 1 else lax.reshape(hot, (count, *a.shape)))
        offset += n
    return out


def _primal(problem: FlatProblem, constants: Sequence[Any]) -> Callable:
    fun = problem.bind(constants)
    return jax.checkpoint(fun) if problem.options.remat else fun


def _through(problem: FlatProblem, reverse: bool) -> Callable:
    """A map of a linear function over stacks of unit vectors."""
    if plain_cost(problem, reverse, False).chunk is None:
        return lambda linear, units, axis: jax.vmap(linear, out_axes=axis)(*units)

    def one_after_the_other(linear: Callable, units: Sequence[jax.Array], axis: int) -> list[jax.Array]:
        each = [linear(*(u[i] for u in units)) for i in range(len(units[0]))]
        return [jnp.stack(part, axis) for part in zip(*each, strict=True)]

    return one_after_the_other


def build_forward(problem: FlatProblem) -> Callable:
    """All columns at once, or one after the other where the cost says so."""
    through = _through(problem, False)

    def evaluate(constants, leaves):
        outs, push = jax.linearize(_primal(problem, constants), *leaves)
        columns = through(push, varying(unit_vectors(problem.inputs), leaves), -1)
        return outs, [cut(c, problem.inputs, -1) for c in columns]

    return evaluate


def build_reverse(problem: FlatProblem) -> Callable:
    """All rows at once, or one after the other where the cost says so."""
    through = _through(problem, True)

    def evaluate(constants, leaves):
        outs, pull = jax.vjp(_primal(problem, constants), *leaves)
        rows = through(lambda *ct: pull(tuple(ct)), varying(unit_vectors(problem.outputs), outs), 0)
        return outs, _by_output(rows, problem)

    return evaluate


def _by_output(rows: Sequence[jax.Array], problem: FlatProblem) -> list:
    """Blocks `[output][input]` of u^T J for all rows u of the identity, one stack per input."""
    return [list(b) for b in zip(*[cut(r, problem.outputs, 0) for r in rows], strict=True)]


def _chunks(total: int, chunk: int) -> tuple[int, int]:
    """(number of chunks, size of a chunk) that cover `total` evenly with at most `chunk` each."""
    count = -(-total // max(1, min(chunk, total)))
    return count, -(-total // count)


def _unchunked(stacked: Any, total: int) -> Any:
    """(chunks, size, ...) as (total, ...), without the padding of the last chunk."""
    return jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])[:total], stacked)


def _over_units(fun: Callable, avals: Sequence[Any], total: int, chunk: int) -> Any:
    """fun(*unit vectors), `chunk` of them at a time, stacked."""
    count, width = _chunks(total, chunk)
    if count == 1:
        return fun(*unit_vectors(avals, 0, total))
    return _unchunked(jax.lax.map(lambda i: fun(*unit_vectors(avals, i * width, width)), jnp.arange(count)), total)


def mapped(fun: Callable, stack: Sequence[jax.Array], chunk: int | None) -> Any:
    """fun(*stack) over the leading axis in groups of `chunk` (all at once when None)."""
    total = stack[0].shape[0]
    count, width = _chunks(total, chunk or total)
    if count == 1:
        return fun(*stack)
    pad = [jnp.pad(a, [(0, count * width - total)] + [(0, 0)] * (a.ndim - 1)) for a in stack]
    parts = [a.reshape(count, width, *a.shape[1:]) for a in pad]
    return _unchunked(jax.lax.map(lambda xs: fun(*xs), parts), total)


def build_forward_chunked(problem: FlatProblem) -> Callable:
    """Linearise once, then groups of columns."""
    chunk = problem.options.chunk_size or default_chunk(problem, False)

    def evaluate(constants, leaves):
        outs, push = jax.linearize(_primal(problem, constants), *leaves)
        columns = _over_units(lambda *t: jax.vmap(push)(*varying(t, leaves)), problem.inputs, problem.n, chunk)
        return outs, [cut(jnp.moveaxis(c, 0, -1), problem.inputs, -1) for c in columns]

    return evaluate


def build_reverse_chunked(problem: FlatProblem) -> Callable:
    """One vjp, then groups of rows."""
    chunk = problem.options.chunk_size or default_chunk(problem, True)

    def evaluate(constants, leaves):
        outs, pull = jax.vjp(_primal(problem, constants), *leaves)
        rows = _over_units(
            lambda *u: jax.vmap(lambda *ct: pull(tuple(ct)))(*varying(u, outs)), problem.outputs, problem.m, chunk
        )
        return outs, _by_output(rows, problem)

    return evaluate


_forward, _reverse = attrgetter("no_forward"), attrgetter("no_reverse")
for name, supports, build, reverse, chunked in (
    ("fwd", _forward, build_forward, False, False),
    ("rev", _reverse, build_reverse, True, False),
    ("fwd_chunked", _forward, build_forward_chunked, False, True),
    ("rev_chunked", _reverse, build_reverse_chunked, True, True),
):
    register_method(name, supports=supports, cost=partial(plain_cost, reverse=reverse, chunked=chunked), build=build)
