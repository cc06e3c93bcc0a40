"""The method `batched`: a function of a batch of independent examples, given whole.

jacfwd of such a function pushes batch * n columns, nearly all of them zero. Here the batch axis is found by proof
(`grads.programs.independence`), or stated by the user with `batch_axis`; what is stated and cannot be proved is tested
by every evaluation (`_leak`): a false claim gives nan, and outside of transformations ValueError. The Jacobian of each
example is computed alone: by any method on the program of one example where that can be had, else by n tangents (or m
cotangents) of the whole batch, the same for all examples.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grads.calls.forms import Checked, PerExample, cut, to_blocks
from grads.calls.one_example import one_example
from grads.calls.problem import FlatProblem
from grads.costs.cost import UNROLLED, Cost
from grads.costs.machine import Machine, Number, current, moved_bytes, operations, using
from grads.costs.work import derivative_work
from grads.methods.plain import unit_vectors
from grads.methods.registry import Method, register_method
from grads.methods.select import predicted
from grads.programs.graph import varying
from grads.programs.independence import NotIndependentError, batch_axes


@dataclass(frozen=True)
class BatchAxes:
    """Number of examples and their axis in each input and output; `known` for every value when it was proved."""

    count: int
    in_axes: tuple[int, ...]
    out_axes: tuple[int, ...]
    known: dict | None


def layout(problem: FlatProblem) -> BatchAxes | str:
    """Find the batch axis, or say why there is none."""
    stated = problem.options.batch_axis
    axis = 0 if stated is None else stated
    avals = (*problem.inputs, *problem.outputs)
    if any(not -len(a.shape) <= axis < len(a.shape) for a in avals):
        shapes = ", ".join(str(a.shape) for a in avals)
        way = "use 'chain', 'fwd' or 'rev'" if stated is None else "leave batch_axis out"
        return f"an input or output has no axis {axis} to hold examples (shapes {shapes}): {way}"
    sizes = {a.shape[axis] for a in avals}
    if len(sizes) != 1:
        return f"axis {axis} has sizes {sorted(sizes)} among inputs and outputs, so it holds no examples"
    count = sizes.pop()
    in_axes = tuple(axis % len(a.shape) for a in problem.inputs)
    out_axes = tuple(axis % len(a.shape) for a in problem.outputs)
    if count < 2 and stated is None:
        return "there is only one example: use 'chain', 'fwd' or 'rev'"
    try:
        known = batch_axes(problem.graph, in_axes)
        found = tuple(known[v] for v in problem.graph.outvars[: len(problem.outputs)])
        if found != out_axes:
            raise NotIndependentError(f"the examples end in axes {found}")
        return BatchAxes(count, in_axes, out_axes, known)
    except NotIndependentError as error:
        if stated is not None:
            return BatchAxes(count, in_axes, out_axes, None)
        return f"independent examples along axis 0 are not proved ({error}); state them with batch_axis=0"


def supports(problem: FlatProblem) -> str | None:
    """The batch axis is proved or stated; inputs and outputs are real."""
    if problem.is_complex and any(
        jnp.issubdtype(a.dtype, jnp.complexfloating) for a in (*problem.inputs, *problem.outputs)
    ):
        return "an input or output is complex: use 'fwd' or 'rev'"
    if problem.no_forward and problem.no_reverse:
        return problem.no_forward
    if problem.unit_only:
        return problem.unit_only
    found = layout(problem)
    return found if isinstance(found, str) else None


@dataclass(frozen=True)
class _Way:
    """How the Jacobian of all examples is made: a method on one example, or passes of the whole batch."""

    cost: Cost
    method: Method | None = None
    single: FlatProblem | None = None
    forward: bool = True
    chunk: int | None = None
    unrolled: bool = False


def _way(problem: FlatProblem, lay: BatchAxes) -> _Way:
    ways = [_by_passes(problem, lay)]
    limit = problem.options.memory_limit
    if limit is None and min(problem.n, problem.m) == lay.count and not ways[0].unrolled:
        return ways[0]  # one pass of the whole batch: no method on one example makes fewer
    single = _single(problem, lay)
    if single is not None:
        forms = (False,) if problem.options.chunk_size else (False, True)
        ways += [_by_example(problem, lay, single, whole) for whole in forms]
    fitting = [w for w in ways if limit is None or w.cost.memory <= limit]
    return min(fitting or ways, key=lambda w: w.cost.seconds)


def _single(problem: FlatProblem, lay: BatchAxes) -> FlatProblem | None:
    known = lay.known
    if known is None or "fun" not in problem.session:
        return None
    return problem.once("single", lambda: one_example(problem, known, problem.session["constants"]))


def _by_example(problem: FlatProblem, lay: BatchAxes, single: FlatProblem, whole: bool) -> _Way:
    """Any method on the program of one example: all examples at once, or a chunk of them at a time in a loop."""
    machine, limit, result = current(), problem.options.memory_limit, result_bytes(problem, lay)
    # many examples share dispatches and make the products large
    known = _rows(problem, single, replace(machine if whole else machine.in_loop(), dispatch=0.0, dot=machine.dot[-1:]))
    blocks = problem.output_bytes / lay.count

    def memory(held: Number, c: int) -> Number:
        """All at once the blocks are the result; in a loop they are stacked, and copied for a remainder."""
        return held * c + result + blocks * ((lay.count % c > 0) - (c == lay.count))

    small = [r for r in known if limit is None or memory(r.prediction.memory, lay.count if whole else 1) <= limit]
    best = min(small or known, key=lambda r: r.prediction.seconds)
    cost, held = best.prediction, max(best.prediction.memory, 1.0)
    chunk = problem.options.chunk_size or max(1, int(4 * machine.cache // held))
    chunk = lay.count if whole else _dividing(lay.count, chunk)
    if limit is not None and memory(held, chunk) > limit and not whole:
        fitting = [c for c in range(1, lay.count + 1) if lay.count % c == 0 and memory(held, c) <= limit]
        chunk = max(fitting, default=1)
    seconds = lay.count * cost.seconds + _writing(problem, lay)
    seconds += len(problem.graph.body) * 3 * machine.dispatch * -(-lay.count // chunk)
    if not whole:  # what a turn of the loop gives is copied to its place
        seconds += 2 * blocks / machine.cached
    elif held * chunk > 4 * machine.cache:  # temporaries of many examples are fresh memory
        seconds += max(0.0, lay.count * held - blocks) / machine.bandwidth
    work = lay.count * cost.operations, lay.count * cost.bytes, seconds, memory(held, chunk)
    note = f"{best.method.name} per example"
    return _Way(Cost(*work, chunk, note), best.method, single, chunk=chunk)


def _rows(problem: FlatProblem, single: FlatProblem, machine: Machine) -> list:
    """The predictions for one example on a machine, made once per problem; loops matter to convolutions only."""
    if "conv_general_dilated" not in single.primitives:
        machine = replace(machine, looped=False)

    def rows() -> list:
        with using(machine):
            found = predicted(single, every=False, repeated=problem.options.memory_limit is not None)
        return [r for r in found if not r.method.keeps_batch and r.cost is not None]

    return problem.once(("rows", machine), rows)


def _dividing(count: int, most: int) -> int:
    """The largest size of equal chunks, at most `most`; a remainder of its own would cost a copy of all blocks."""
    sizes = [c for c in range(1, min(most, count) + 1) if count % c == 0]
    return sizes[-1] if 2 * sizes[-1] >= min(most, count) else min(most, count)


def _by_passes(problem: FlatProblem, lay: BatchAxes) -> _Way:
    machine, options = current(), []
    for forward, reason in ((True, problem.no_forward), (False, problem.no_reverse)):
        if reason is None:
            columns = (problem.n if forward else problem.m) // lay.count
            works = derivative_work(problem, not forward)
            seconds, moved = machine.seconds(works, columns) + _writing(problem, lay), moved_bytes(works, columns)
            result = result_bytes(problem, lay)
            memory = 2 * problem.column_bytes * columns + result
            note = f"{columns} {'tangents' if forward else 'cotangents'} of the whole batch"
            if memory > 4 * machine.cache:  # temporaries of the whole batch are fresh memory
                seconds += moved / machine.bandwidth
                if columns <= UNROLLED:  # those of one pass are used again by the next
                    each = columns * machine.seconds(works, 1) + 2 * _writing(problem, lay)
                    least = 2 * problem.column_bytes + 2 * result
                    apart = Cost(operations(works, columns), moved, each, least, None, f"{note}, one by one")
                    options.append(_Way(apart, forward=forward, unrolled=True))
            cost = Cost(operations(works, columns), moved, seconds, memory, None, note)
            options.append(_Way(cost, forward=forward))
    return min(options, key=lambda w: w.cost.seconds)


def result_bytes(problem: FlatProblem, lay: BatchAxes) -> Number:
    """Bytes of the result: one block per example, and the full matrix unless the user stated the batch axis."""
    full = problem.output_bytes
    return full / lay.count if problem.options.batch_axis is not None else full * (1 + 1 / lay.count)


def _writing(problem: FlatProblem, lay: BatchAxes) -> Number:
    return result_bytes(problem, lay) / current().bandwidth


def cost(problem: FlatProblem) -> Cost:
    """Cost of the cheaper way."""
    return _way(problem, _checked(problem)).cost


def _checked(problem: FlatProblem) -> BatchAxes:
    found = layout(problem)
    assert isinstance(found, BatchAxes)
    return found


def build(problem: FlatProblem) -> Callable:
    """Emit the cheaper way."""
    lay = _checked(problem)
    way = _way(problem, lay)
    return _build_examples(problem, lay, way) if way.method else _build_passes(problem, lay, way)


def _build_examples(problem: FlatProblem, lay: BatchAxes, way: _Way) -> Callable:
    assert way.method is not None
    assert way.single is not None
    single, inner = way.single, way.method.build(way.single)

    def evaluate(constants, leaves):
        def one(xs):
            xs = [jnp.expand_dims(x, axis) for x, axis in zip(xs, lay.in_axes, strict=True)]
            _, jac = inner(constants, xs)
            blocks = to_blocks(jac, single)
            return [
                [jnp.squeeze(b, (lay.out_axes[i], len(o.shape) + lay.in_axes[j])) for j, b in enumerate(row)]
                for i, (row, o) in enumerate(zip(blocks, single.outputs, strict=True))
            ]

        first = [jnp.moveaxis(x, axis, 0) for x, axis in zip(leaves, lay.in_axes, strict=True)]
        whole = way.chunk is None or way.chunk >= lay.count
        blocks = jax.vmap(one)(first) if whole else jax.lax.map(one, first, batch_size=way.chunk)
        return None, PerExample(blocks, lay.in_axes, lay.out_axes)

    return evaluate


def _build_passes(problem: FlatProblem, lay: BatchAxes, way: _Way) -> Callable:
    forward = way.forward
    avals, axes = (problem.inputs, lay.in_axes) if forward else (problem.outputs, lay.out_axes)
    other_axes = lay.out_axes if forward else lay.in_axes
    singles = [_of_one(a, axis) for a, axis in zip(avals, axes, strict=True)]

    def evaluate(constants, leaves):
        fun = problem.bind(constants)
        if forward:
            outs, push = jax.linearize(fun, *leaves)
        else:
            outs, pull = jax.vjp(fun, *leaves)
            push = lambda *ct: pull(tuple(ct))
        seeds = varying(_shared_seeds(avals, axes), leaves if forward else outs)
        if way.unrolled:
            each = [push(*(s[i] for s in seeds)) for i in range(len(seeds[0]))]
            passes = [jnp.stack(p) for p in zip(*each, strict=True)]
        else:
            passes = jax.vmap(push)(*seeds)
        # (passes, ..., batch, ...) to (batch, ..., inputs) or (batch, outputs, ...)
        stacks = [jnp.moveaxis(p, axis + 1, 1) for p, axis in zip(passes, other_axes, strict=True)]
        at = -1 if forward else 1
        blocks = [cut(jnp.moveaxis(s, 0, at), singles, at) for s in stacks]
        blocks = blocks if forward else [list(row) for row in zip(*blocks, strict=True)]
        jac = PerExample(blocks, lay.in_axes, lay.out_axes)
        if lay.known is not None or lay.count < 2:
            return outs, jac
        return outs, Checked(jac, _leak(problem, lay, push, avals, axes), _dependent(problem))

    return evaluate


def _of_one(aval: Any, axis: int) -> jax.ShapeDtypeStruct:
    """The value of one example."""
    return jax.ShapeDtypeStruct(tuple(d for i, d in enumerate(aval.shape) if i != axis), aval.dtype)


def _shared_seeds(avals: Sequence[Any], axes: Sequence[int]) -> list[jax.Array]:
    """Unit vectors of one example, the same in all examples of the batch."""
    units = unit_vectors([_of_one(a, axis) for a, axis in zip(avals, axes, strict=True)])
    return [
        jnp.broadcast_to(jnp.expand_dims(u, axis + 1), (u.shape[0], *a.shape))
        for u, a, axis in zip(units, avals, axes, strict=True)
    ]


def _leak(problem: FlatProblem, lay: BatchAxes, push: Callable, avals: Sequence[Any], axes: Sequence[int]) -> jax.Array:
    """Return the largest derivative found between different examples: exactly zero where there is none.

    Random seeds in some of the examples must not reach the others. No example's set of probes contains another's (as
    many of k probes each, k the smallest with enough such sets: Sperner 1928), so of every ordered pair some probe
    seeds the one and not the other, and a derivative between them shows, except on a set of seeds of measure zero.
    """
    k = next(k for k in itertools.count(1) if math.comb(k, k // 2) >= lay.count)
    members = np.zeros((k, lay.count), bool)
    for b, chosen in enumerate(itertools.islice(itertools.combinations(range(k), k // 2), lay.count)):
        members[list(chosen), b] = True
    others = lay.out_axes if avals is problem.inputs else lay.in_axes

    def one(inside: jax.Array, key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, len(avals))
        seeds = [
            jnp.where(_along(inside, len(a.shape), axis), jax.random.normal(each, a.shape, a.dtype), 0)
            for each, a, axis in zip(keys, avals, axes, strict=True)
        ]
        outside = [
            jnp.abs(jnp.where(_along(inside, y.ndim, axis), 0, y)) for y, axis in zip(push(*seeds), others, strict=True)
        ]
        # nan says nothing of dependence, and must not hide what the other entries say
        found = [jnp.max(jnp.where(y > 0, y, 0), initial=0).astype(problem.dtype) for y in outside]
        return jnp.max(jnp.stack(found))

    return jnp.max(jax.vmap(one)(jnp.asarray(members), jax.random.split(jax.random.key(0), k)))


def _dependent(problem: FlatProblem) -> Callable[..., Exception]:
    axis = problem.options.batch_axis
    return lambda constants, leaves, leak: ValueError(
        f"batch_axis={axis}: the examples are not independent "
        f"(a derivative of {float(leak):.3g} between different examples); leave batch_axis out"
    )


def _along(mask: jax.Array, rank: int, axis: int) -> jax.Array:
    return mask.reshape([-1 if i == axis else 1 for i in range(rank)])


register_method("batched", supports=supports, cost=cost, build=build, keeps_batch=True)
