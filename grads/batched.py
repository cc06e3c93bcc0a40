"""The method `batched`: a function of a batch of independent examples, given whole.

jacfwd of such a function pushes batch * n columns, nearly all of them zero. Here the batch axis is found by
proof (`grads.independence`), or stated by the user with `batch_axis` and then checked by probes, and the
Jacobian of each example is computed alone: by any method on the program of one example where that can be had,
else by n tangents (or m cotangents) of the whole batch, the same for all examples.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grads import costs
from grads.basis import supports_forward, supports_reverse
from grads.flat import Problem
from grads.independence import NotIndependentError, batch_axes
from grads.machine import current, using
from grads.one_example import one_example
from grads.outputs import PerExample
from grads.registry import Cost, Method, Number, register_method


@dataclass(frozen=True)
class Layout:
    """Number of examples and their axis in each input and output; `known` for every value when
    it was proved.
    """

    count: int
    in_axes: tuple[int, ...]
    out_axes: tuple[int, ...]
    known: dict | None


def layout(problem: Problem) -> Layout | str:
    """Find the batch axis, or say why there is none."""
    stated = problem.options.batch_axis
    axis = 0 if stated is None else stated
    avals = (*problem.inputs, *problem.outputs)
    if any(not -len(a.shape) <= axis < len(a.shape) for a in avals):
        return f"an input or output has no axis {axis} to hold examples: use 'chain', 'fwd' or 'rev'"
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
        return Layout(count, in_axes, out_axes, known)
    except NotIndependentError as error:
        if stated is not None:
            return Layout(count, in_axes, out_axes, None)
        return f"independent examples along axis 0 are not proved ({error}); state them with batch_axis=0"


def supports(problem: Problem) -> str | None:
    """The batch axis is proved or stated, and the values are real."""
    if problem.is_complex:
        return "a complex value lies on the way of the derivative: use 'fwd' or 'rev'"
    found = layout(problem)
    return found if isinstance(found, str) else None


@dataclass(frozen=True)
class _Way:
    """How the Jacobian of all examples is made: a method on one example, or passes of the whole batch."""

    cost: Cost
    method: Method | None = None
    single: Problem | None = None
    forward: bool = True
    chunk: int | None = None


def _way(problem: Problem, lay: Layout) -> _Way:
    single = _single(problem, lay)
    ways = [_by_passes(problem, lay)] + ([_by_example(problem, lay, single)] if single is not None else [])
    limit = problem.options.memory_limit
    fitting = [w for w in ways if limit is None or w.cost.memory <= limit]
    return min(fitting or ways, key=lambda w: w.cost.seconds)


def _single(problem: Problem, lay: Layout) -> Problem | None:
    if lay.known is None or "fun" not in problem.session:
        return None
    if "single" not in problem.session:
        problem.session["single"] = one_example(problem, lay.known, problem.session["constants"])
    return problem.session["single"]


def _by_example(problem: Problem, lay: Layout, single: Problem) -> _Way:
    from grads.select import predicted

    machine = current()
    # a chunk of examples shares dispatches and makes the products large
    with using(replace(machine, dispatch=0.0, dot=machine.dot[-1:])):
        rows = [r for r in predicted(single) if r.method.name != "batched" and r.method.exact]
    best = min((r for r in rows if r.cost is not None), key=lambda r: r.prediction.seconds)
    cost = best.prediction
    held = max(cost.memory, 1.0)
    chunk = problem.options.chunk_size or max(1, int(2 * machine.cache // held))
    if problem.options.memory_limit is not None:
        room = problem.options.memory_limit - result_bytes(problem, lay)
        chunk = max(1, min(chunk, int(room // held)))
    chunk = min(chunk, lay.count)
    dispatched = len(problem.graph.body) * 3 * machine.dispatch * -(-lay.count // chunk)
    seconds = lay.count * cost.seconds + dispatched + _writing(problem, lay)
    memory = held * chunk + result_bytes(problem, lay)
    total = Cost(
        lay.count * cost.operations,
        lay.count * cost.bytes,
        seconds,
        memory,
        chunk,
        f"{best.method.name} per example",
    )
    return _Way(total, best.method, single, chunk=chunk)


def _by_passes(problem: Problem, lay: Layout) -> _Way:
    machine, options = current(), []
    for forward, supported in ((True, supports_forward), (False, supports_reverse)):
        if supported(problem) is None:
            columns = (problem.n if forward else problem.m) // lay.count
            works = costs.graph_work(problem, not forward)
            seconds = sum(w.seconds(columns, machine) for w in works) + _writing(problem, lay)
            memory = 2 * costs.column_bytes(problem) * columns + result_bytes(problem, lay)
            if memory > 4 * machine.cache:  # temporaries of the whole batch are fresh memory
                seconds += costs.moved_bytes(works, columns) / machine.bandwidth
            note = f"{columns} {'tangents' if forward else 'cotangents'} of the whole batch"
            cost = Cost(
                costs.operations(works, columns),
                costs.moved_bytes(works, columns),
                seconds,
                memory,
                None,
                note,
            )
            options.append(_Way(cost, forward=forward))
    return min(options, key=lambda w: w.cost.seconds)


def result_bytes(problem: Problem, lay: Layout) -> Number:
    """Bytes of the result: one block per example, and the full matrix unless the user stated
    the batch axis.
    """
    full = costs.output_bytes(problem)
    return full / lay.count if problem.options.batch_axis is not None else full * (1 + 1 / lay.count)


def _writing(problem: Problem, lay: Layout) -> Number:
    return result_bytes(problem, lay) / current().bandwidth


def cost(problem: Problem) -> Cost:
    """Cost of the cheaper way."""
    return _way(problem, _checked(problem)).cost


def _checked(problem: Problem) -> Layout:
    found = layout(problem)
    assert isinstance(found, Layout)
    return found


def build(problem: Problem) -> Callable:
    """Emit the cheaper way."""
    lay = _checked(problem)
    way = _way(problem, lay)
    return _build_examples(problem, lay, way) if way.method else _build_passes(problem, lay, way.forward)


def _build_examples(problem: Problem, lay: Layout, way: _Way) -> Callable:
    assert way.method is not None
    assert way.single is not None
    single, inner = way.single, way.method.build(way.single)

    def evaluate(constants, leaves):
        from grads.outputs import to_blocks

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


def _build_passes(problem: Problem, lay: Layout, forward: bool) -> Callable:
    avals, axes = (problem.inputs, lay.in_axes) if forward else (problem.outputs, lay.out_axes)
    other_axes = lay.out_axes if forward else lay.in_axes

    def evaluate(constants, leaves):
        fun = problem.bind(constants)
        if forward:
            outs, push = jax.linearize(fun, *leaves)
        else:
            outs, pull = jax.vjp(fun, *leaves)
            push = lambda *ct: pull(tuple(ct))
        passes = jax.vmap(push)(*_shared_seeds(avals, axes))
        stacks = [jnp.moveaxis(p, axis + 1, 1) for p, axis in zip(passes, other_axes, strict=True)]
        blocks = [_split_passes(s, avals, axes, forward) for s in stacks]
        blocks = blocks if forward else [list(row) for row in zip(*blocks, strict=True)]
        return outs, PerExample(blocks, lay.in_axes, lay.out_axes)

    return evaluate


def _one_shape(aval: Any, axis: int) -> tuple[int, ...]:
    return tuple(d for i, d in enumerate(aval.shape) if i != axis)


def _shared_seeds(avals: Sequence[Any], axes: Sequence[int]) -> list[jax.Array]:
    """Unit vectors of one example, the same in all examples of the batch."""
    shapes = [_one_shape(a, axis) for a, axis in zip(avals, axes, strict=True)]
    sizes = [math.prod(s) for s in shapes]
    seeds, offset = [], 0
    for a, axis, shape, size in zip(avals, axes, shapes, sizes, strict=True):
        eye = jnp.eye(sum(sizes), size, -offset, dtype=a.dtype).reshape(-1, *shape)
        seeds.append(jnp.broadcast_to(jnp.expand_dims(eye, axis + 1), (sum(sizes), *a.shape)))
        offset += size
    return seeds


def _split_passes(
    stack: jax.Array, avals: Sequence[Any], axes: Sequence[int], forward: bool
) -> list[jax.Array]:
    """(passes, batch, *result) into one (batch, *output, *input) block per differentiated (or
    seeded) leaf.
    """
    shapes = [_one_shape(a, axis) for a, axis in zip(avals, axes, strict=True)]
    ends = np.cumsum([math.prod(s) for s in shapes])[:-1].tolist()
    out = []
    for piece, shape in zip(jnp.split(stack, ends, axis=0), shapes, strict=True):
        target = stack.ndim - 1 if forward else 1  # inputs go last, outputs right after the batch
        moved = jnp.moveaxis(piece, 0, target) if forward else jnp.moveaxis(piece, 0, 1)
        if forward:
            out.append(moved.reshape(*moved.shape[:-1], *shape))
        else:
            out.append(moved.reshape(moved.shape[0], *shape, *moved.shape[2:]))
    return out


def probe(problem: Problem, constants: Sequence[Any], leaves: Sequence[Any]) -> None:
    """Check a stated batch axis: a tangent in every other example must not reach the examples between.

    Raises ValueError naming the largest forbidden derivative.
    """
    lay = _checked(problem)
    if lay.known is not None or lay.count < 2:
        return
    keys = jax.random.split(jax.random.key(0), len(leaves))
    for parity in (0, 1):
        chosen = jnp.arange(lay.count) % 2 == parity
        tangents = [
            jnp.where(_along(chosen, x.ndim, axis), jax.random.normal(k, x.shape, x.dtype), 0)
            for k, x, axis in zip(keys, leaves, lay.in_axes, strict=True)
        ]
        outs = jax.jvp(problem.bind(constants), tuple(leaves), tuple(tangents))[1]
        leak = max(
            float(jnp.max(jnp.abs(jnp.where(_along(chosen, y.ndim, axis), 0, y)), initial=0.0))
            for y, axis in zip(outs, lay.out_axes, strict=True)
        )
        if leak:
            raise ValueError(
                f"batch_axis={problem.options.batch_axis}: the examples are not independent "
                f"(a derivative of {leak:.3g} between different examples); leave batch_axis out"
            )


def _along(mask: jax.Array, rank: int, axis: int) -> jax.Array:
    return mask.reshape([-1 if i == axis else 1 for i in range(rank)])


register_method("batched", supports=supports, cost=cost, build=build)
