"""The method `batched`: a function of a batch of independent examples, given whole.

jacfwd of such a function pushes batch * n columns, nearly all of them zero. Here the batch axis is found by
proof (`grads.programs.independence`), or stated by the user with `batch_axis`; what is stated and cannot be proved is
tested by every evaluation (`_leak`): a false claim gives nan, and outside of transformations ValueError. The
Jacobian of each example is computed alone: by any method on the program of one example where that can be had,
else by n tangents (or m cotangents) of the whole batch, the same for all examples.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grads.calls.forms import Checked, PerExample
from grads.calls.one_example import one_example
from grads.calls.problem import Problem
from grads.costs import work as costs
from grads.costs.machine import Machine, current, using
from grads.methods.plain import supports_forward, supports_reverse
from grads.methods.registry import Cost, Method, Number, register_method
from grads.programs.independence import NotIndependentError, batch_axes


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
        return Layout(count, in_axes, out_axes, known)
    except NotIndependentError as error:
        if stated is not None:
            return Layout(count, in_axes, out_axes, None)
        return f"independent examples along axis 0 are not proved ({error}); state them with batch_axis=0"


def supports(problem: Problem) -> str | None:
    """The batch axis is proved or stated, and the values are real."""
    if problem.is_complex:
        return "a complex value lies on the way of the derivative: use 'fwd' or 'rev'"
    forward, reverse = supports_forward(problem), supports_reverse(problem)
    if forward and reverse:
        return forward
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
    ways = [_by_passes(problem, lay)]
    if single is not None:
        forms = (False,) if problem.options.chunk_size else (False, True)
        ways += [_by_example(problem, lay, single, whole) for whole in forms]
    limit = problem.options.memory_limit
    fitting = [w for w in ways if limit is None or w.cost.memory <= limit]
    return min(fitting or ways, key=lambda w: w.cost.seconds)


def _single(problem: Problem, lay: Layout) -> Problem | None:
    if lay.known is None or "fun" not in problem.session:
        return None
    if "single" not in problem.session:
        problem.session["single"] = one_example(problem, lay.known, problem.session["constants"])
    return problem.session["single"]


def _by_example(problem: Problem, lay: Layout, single: Problem, whole: bool) -> _Way:
    """Any method on the program of one example: all examples at once, or a chunk of them at a time in a loop."""
    machine, limit, result = current(), problem.options.memory_limit, result_bytes(problem, lay)
    # many examples share dispatches and make the products large
    known = _rows(problem, single, replace(machine if whole else machine.in_loop(), dispatch=0.0, dot=machine.dot[-1:]))
    blocks = costs.output_bytes(problem) / lay.count

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


def _rows(problem: Problem, single: Problem, machine: Machine) -> list:
    """The predictions for one example on a machine, made once per problem; loops matter to convolutions only."""
    from grads.methods.select import predicted

    if "conv_general_dilated" not in single.primitives():
        machine = replace(machine, looped=False)
    key = ("rows", machine)
    if key not in problem.session:
        with using(machine):
            found = predicted(single, every=False)
        problem.session[key] = [r for r in found if r.method.name != "batched" and r.cost is not None]
    return problem.session[key]


def _dividing(count: int, most: int) -> int:
    """The largest size of equal chunks, at most `most`; a remainder of its own would cost a copy of all blocks."""
    sizes = [c for c in range(1, min(most, count) + 1) if count % c == 0]
    return sizes[-1] if 2 * sizes[-1] >= min(most, count) else min(most, count)


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
        from grads.calls.forms import to_blocks

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
        jac = PerExample(blocks, lay.in_axes, lay.out_axes)
        if lay.known is not None or lay.count < 2:
            return outs, jac
        return outs, Checked(jac, _leak(problem, lay, push, avals, axes), _dependent(problem))

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


def _split_passes(stack: jax.Array, avals: Sequence[Any], axes: Sequence[int], forward: bool) -> list[jax.Array]:
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


def _leak(
    problem: Problem, lay: Layout, push: Callable, avals: Sequence[Any], axes: Sequence[int]
) -> jax.Array:
    """Return the largest derivative found between different examples: exactly zero where there is none.

    Random seeds in some of the examples must not reach the others. No example's set of probes contains
    another's (as many of k probes each, k the smallest with enough such sets: Sperner 1928), so of every
    ordered pair some probe seeds the one and not the other, and a derivative between them shows, except on a
    set of seeds of measure zero.
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
            jnp.abs(jnp.where(_along(inside, y.ndim, axis), 0, y))
            for y, axis in zip(push(*seeds), others, strict=True)
        ]
        # nan says nothing of dependence, and must not hide what the other entries say
        found = [jnp.max(jnp.where(y > 0, y, 0), initial=0).astype(problem.dtype) for y in outside]
        return jnp.max(jnp.stack(found))

    return jnp.max(jax.vmap(one)(jnp.asarray(members), jax.random.split(jax.random.key(0), k)))


def _dependent(problem: Problem) -> Callable[..., Exception]:
    axis = problem.options.batch_axis
    return lambda constants, leaves, leak: ValueError(
        f"batch_axis={axis}: the examples are not independent "
        f"(a derivative of {float(leak):.3g} between different examples); leave batch_axis out"
    )


def _along(mask: jax.Array, rank: int, axis: int) -> jax.Array:
    return mask.reshape([-1 if i == axis else 1 for i in range(rank)])


register_method("batched", supports=supports, cost=cost, build=build)
