"""The method `chain`: local Jacobians between cuts, multiplied in the cheapest order.

`chain` cuts the program, plans with `grads.methods.order` and emits: one forward sweep that differentiates each
group of segments as the plan needs it (jvp, vjp, a diagonal, a weight matrix), then tangents, adjoints and
products. Nothing of the analysis can change the result: a segment of unproved structure is differentiated by
JAX itself.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from grads.calls.problem import Problem, primitive_names
from grads.costs import work as costs
from grads.costs.machine import Machine, current
from grads.matrices.factored import Dense, Diagonal, Factor, Factored, Identity, multiply
from grads.methods.order import Chain, Step, bracket
from grads.methods.plain import identity, mapped, no_derivative
from grads.methods.registry import Cost, Number, register_method
from grads.programs.cuts import end_state, segments
from grads.programs.graph import is_var, size
from grads.programs.local import Segment, weight_matrix


def supports(problem: Problem) -> str | None:
    """A chain needs at least two segments, real values and no side effects."""
    if problem.graph.effects:
        return "the function has side effects, which cannot be split: use 'fwd' or 'rev'"
    if reason := no_derivative(problem):
        return reason
    if problem.is_complex:
        return "a complex value lies on the way of the derivative: use 'fwd' or 'rev'"
    if not end_state(problem.graph) or not problem.graph.live[0]:
        return "no output depends on the input: use 'fwd'"
    parts = _segments(problem)
    if not parts:
        return "the function returns its input: use 'fwd'"
    if len(parts) < 2 and not any(s.structured for s in parts):
        inside = parts[0].eqns[0].primitive.name if len(parts[0].eqns) == 1 else "the program"
        return f"nothing to split: {inside!r} is one piece without a cut; use 'fwd' or 'rev'"
    return None


LOOPED = 16  # columns at a time at most, where a loop is faster


def plan_chain(problem: Problem) -> Chain:
    """The segments of a problem and their cheapest bracketing on this machine.

    Where a kind of operation has another rate in a loop (transposed convolutions, on a CPU), the passes of many
    columns may be looped over chunks: the cheaper of both plans.
    """
    machine = current()
    plain = _planned(problem, machine)
    options = problem.options
    if options.chunk_size is not None or options.memory_limit is not None or not _loops_matter(problem, machine):
        return plain
    looped = _planned(problem, machine.in_loop())
    if root_of(problem, looped).seconds >= root_of(problem, plain).seconds:
        return plain
    passes = [looped.columns(s) for s in looped.walk(root_of(problem, looped)) if looped.columns(s) > 1]
    return replace(looped, chunk=min(LOOPED, (min(passes, default=2) + 1) // 2))


def _loops_matter(problem: Problem, machine: Machine) -> bool:
    if machine.looped or not machine.variants:
        return False
    convolutions = any("conv_general_dilated" in primitive_names(e) for e in problem.graph.body)
    return convolutions and max(problem.n, problem.m) > 1


@lru_cache(maxsize=64)
def _segments(problem: Problem) -> tuple[Segment, ...]:
    return tuple(segments(problem.graph))


@lru_cache(maxsize=64)
def _planned(problem: Problem, machine: Machine) -> Chain:
    return bracket(_segments(problem), problem.graph.active, machine, problem.dtype.itemsize)


def root_of(problem: Problem, chain: Chain) -> Step:
    """The last step of the plan: a kept product when the user asked for factors."""
    return chain.factored if problem.options.factored else chain.root


def cost(problem: Problem) -> Cost:
    """Time and operations of the plan; memory of its widest step."""
    chain = plan_chain(problem)
    return step_cost(problem, chain, root_of(problem, chain))


def step_cost(problem: Problem, chain: Chain, root: Step) -> Cost:
    """Cost of a step and of the steps it builds on, with the chunk that meets the memory limit."""
    machine, itemsize = current(), problem.dtype.itemsize
    primal = sum(w.seconds(1, machine) for w in costs.graph_work(problem, False))
    made = [s for s in chain.walk(root) if s.action != "leaf"]  # a leaf is never written out
    moved = sum((chain.widths[s.start] * chain.widths[s.stop] + _held(chain, s)) * itemsize for s in made)
    chunk = chunk_of(problem, chain, root)
    memory = _memory(problem, chain, root, chunk)
    spread = costs.output_bytes(problem) / machine.bandwidth if root.diagonal else 0.0
    return Cost(root.operations, moved, root.seconds + primal + spread, memory, chunk)


def chunk_of(problem: Problem, chain: Chain, root: Step) -> int | None:
    """Columns at once: the user's, else the most that fits the memory limit (None: all), or the plan's own."""
    limit = problem.options.memory_limit
    if problem.options.chunk_size is not None or limit is None:
        return problem.options.chunk_size or chain.chunk
    options = [None, 256, 64, 16, 4, 1]
    return next((c for c in options if _memory(problem, chain, root, c) <= limit), 1)


def _held(chain: Chain, step: Step) -> int:
    """Elements of the operands of a step; a weight matrix is the user's own, a diagonal is a vector.

    Times an identity, the other operand is the result.
    """
    if any(p.action == "leaf" and chain.segments[p.start].kind == "identity" for p in chain.parts(step)):
        return 0
    return sum(chain.widths[p.start] * chain.widths[p.stop] for p in chain.parts(step) if p.action != "leaf")


def _memory(problem: Problem, chain: Chain, root: Step, chunk: int | None) -> Number:
    """Peak elements over the steps (operands, result, and what the columns in flight hold),
    plus the output.
    """
    most = 0.0
    for s in chain.walk(root):
        n, m = chain.widths[s.start], chain.widths[s.stop]
        columns = chain.columns(s)
        looped = bool(chunk) and columns > (chunk or 0)
        # what goes in and what comes out; in a loop also the slice of the stack that is at work
        flight = (3 if looped else 2) * min(columns, chunk or columns) * _widest(problem, chain, s)
        stacked = n * m if looped else 0
        most = max(most, flight + stacked + _held(chain, s))
    return most * problem.dtype.itemsize + costs.value_bytes(problem) + costs.output_bytes(problem)


def _widest(problem: Problem, chain: Chain, step: Step) -> int:
    """Widest live value that a step pushes its columns through."""
    first = step.cut if step.action == "tangent" else step.start
    last = step.cut if step.action == "adjoint" else step.stop
    inside = [
        size(o) for s in chain.segments[first:last] for e in s.eqns for o in e.outvars if o in problem.graph.active
    ]
    return max([*inside, *chain.widths[first : last + 1]])


@dataclass
class _Group:
    """Consecutive segments that the plan always uses together, and what it needs of them."""

    start: int
    stop: int
    needs: set[str] = field(default_factory=set)
    push: Callable | None = None
    pull: Callable | None = None
    local: Factor | None = None


def build(problem: Problem) -> Callable:
    """Emit the plan as a function of constants and leaves."""
    chain = plan_chain(problem)
    return emit(problem, chain, root_of(problem, chain))


def emit(problem: Problem, chain: Chain, root: Step) -> Callable:
    """Emit one step of a chain (and the steps it builds on) as a function of constants and leaves."""
    groups = _groups(chain, root)
    graph = problem.graph

    def evaluate(constants: Sequence[Any], leaves: Sequence[Any]):
        env: dict[Any, Any] = dict(zip(graph.constvars, constants, strict=True))
        wanted = [o for e in graph.prologue for o in e.outvars if not _dropped(o)]
        env.update(zip(wanted, graph.function(graph.prologue, graph.constvars, wanted)(*constants), strict=True))
        env.update(zip(graph.invars, leaves, strict=True))
        for g in groups:
            _sweep(problem, chain, g, env)
        emitter = _Emitter(chain, groups, chunk_of(problem, chain, root))
        if root.action == "product":  # multiplied where the form of the result is known
            right, left = (emitter.make(s) for s in chain.parts(root))
            jac = Factored((left, right))
        else:
            jac = Factored((emitter.make(root),))
        outs = [env[v] if is_var(v) else jnp.asarray(v.val, v.aval.dtype) for v in graph.outvars]
        return outs, _embed(problem, jac)

    return evaluate


def _dropped(v: Any) -> bool:
    return type(v).__name__ == "DropVar"


def _groups(chain: Chain, root: Step) -> list[_Group]:
    steps = chain.walk(root)
    marks = sorted({0, len(chain.segments), *(p for s in steps for p in (s.start, s.stop, s.split) if p is not None)})
    groups = [_Group(a, b) for a, b in itertools.pairwise(marks)]
    for s in steps:
        if s.action == "leaf":
            need, lo, hi = "local", s.start, s.stop
        elif s.action in ("forward", "tangent"):
            need, lo, hi = "push", s.start if s.split is None else s.split, s.stop
        elif s.action in ("reverse", "adjoint"):
            need, lo, hi = "pull", s.start, s.stop if s.split is None else s.split
        else:
            continue
        for g in groups:
            if lo <= g.start and g.stop <= hi:
                g.needs.add(need)
    return groups


def _sweep(problem: Problem, chain: Chain, group: _Group, env: dict) -> None:
    """Evaluate a group, adding all its values to `env`, and differentiate it as the plan needs."""
    parts = chain.segments[group.start : group.stop]
    eqns = [e for s in parts for e in s.eqns]
    ins, outs = parts[0].ins, parts[-1].outs
    inside = list(dict.fromkeys(o for e in eqns for o in e.outvars if not _dropped(o)))
    reads = dict.fromkeys(v for e in eqns for v in e.invars if is_var(v))
    known = [v for v in reads if v not in set(inside) and v not in set(ins)]
    results = list(dict.fromkeys([*outs, *inside]))
    run = problem.graph.function(eqns, (*ins, *known), results)
    fixed = [env[v] for v in known]

    def primal(*xs):
        values = run(*xs, *fixed)
        return values[: len(outs)], values[len(outs) :]

    primal = jax.checkpoint(primal) if problem.options.remat else primal
    at = [env[v] for v in ins]
    if "push" in group.needs or (group.needs == {"local"} and parts[0].kind == "diagonal"):
        ys, group.push, rest = jax.linearize(primal, *at, has_aux=True)
    elif "pull" in group.needs:
        ys, group.pull, rest = jax.vjp(primal, *at, has_aux=True)
    else:
        ys, rest = primal(*at)
    if "pull" in group.needs and group.pull is None:
        assert group.push is not None  # the first branch above
        group.pull = jax.linear_transpose(group.push, *at)
    env.update(zip(results, (*ys, *rest), strict=True))
    if "local" in group.needs:
        group.local = _local(parts[0], group, env)


def _local(segment: Segment, group: _Group, env: dict) -> Factor:
    if segment.kind == "identity":
        return Identity(size(segment.ins[0]))
    if segment.kind == "diagonal":
        push = group.push
        if push is None:
            assert group.pull is not None  # a swept diagonal has one or the other
            push = jax.linear_transpose(group.pull, env[segment.outs[0]])
        return Diagonal(push(jnp.ones_like(env[segment.ins[0]]))[0].reshape(-1))
    (eqn,) = (e for e in segment.eqns if e.primitive.name == "dot_general")
    other = eqn.invars[1 - eqn.invars.index(segment.ins[0])]
    value = env[other] if is_var(other) else jnp.asarray(other.val)
    return Dense(*weight_matrix(eqn, segment.ins[0], value))


class _Emitter:
    """Turns steps into factors, given groups that have been swept."""

    def __init__(self, chain: Chain, groups: list[_Group], chunk: int | None):
        self.chain, self.groups, self.chunk = chain, groups, chunk

    def make(self, step: Step) -> Factor:
        """The Jacobian of one step."""
        if step.action == "leaf":
            local = next(g.local for g in self.groups if g.start == step.start)
            assert local is not None  # the sweep made it: a leaf needs "local"
            return local
        parts = [self.make(p) for p in self.chain.parts(step)]
        if step.action == "product":
            return multiply(parts[1], parts[0])
        return self._through(step, parts)

    def _through(self, step: Step, parts: list[Factor]) -> Factor:
        forward = step.action in ("forward", "tangent")
        lo = step.cut if step.action == "tangent" else step.start
        hi = step.cut if step.action == "adjoint" else step.stop
        state = self.chain.segments[lo].ins if forward else self.chain.segments[hi - 1].outs
        stack = _rows(parts[0], forward, state) if parts else identity([v.aval for v in state])
        inside = [g for g in self.groups if lo <= g.start and g.stop <= hi]

        def one(*xs):
            for g in inside if forward else reversed(inside):
                xs = g.push(*xs) if forward else g.pull(list(xs))
            return tuple(xs)

        stack = mapped(jax.vmap(one), stack, self.chunk)
        flat = [a.reshape(a.shape[0], -1) for a in stack]
        return Dense(flat[0] if len(flat) == 1 else jnp.concatenate(flat, axis=1), transposed=forward)


def _rows(factor: Factor, forward: bool, state: Sequence[Any]) -> list[jax.Array]:
    """Columns of J (forward) or rows of J (reverse) as a stack of states."""
    if isinstance(factor, Dense):
        matrix = factor.array if factor.transposed == forward else factor.array.mT
        if matrix is not factor.array and matrix.shape[0] <= matrix.shape[1]:
            matrix = jax.lax.optimization_barrier(matrix)  # a product reads it by rows (see `factored._matmul`)
    elif isinstance(factor, Identity):
        return identity([v.aval for v in state])
    else:
        matrix = factor.matrix
    ends, total = [], 0
    for v in state:
        total += size(v)
        ends.append(total)
    pieces = jnp.split(matrix, ends[:-1], axis=1) if len(state) > 1 else [matrix]
    return [p.reshape(p.shape[0], *v.aval.shape).astype(v.aval.dtype) for p, v in zip(pieces, state, strict=True)]


def _embed(problem: Problem, jac: Factored) -> Any:
    """Place the Jacobian between the end states into the Jacobian of all outputs with respect
    to all inputs.
    """
    graph = problem.graph
    start, end = graph.live[0], end_state(graph)
    outvars = graph.outvars[: len(problem.outputs)]
    if start == graph.invars and end == outvars:
        return jac
    matrix = jac.materialize()
    rows, cols = _offsets(end), _offsets(start)
    return [
        [
            matrix[rows[o] : rows[o] + size(o), cols[i] : cols[i] + size(i)].reshape(*y.shape, *x.shape)
            if is_var(o) and o in rows and i in cols
            else jnp.zeros((*y.shape, *x.shape), y.dtype)
            for i, x in zip(graph.invars, problem.inputs, strict=True)
        ]
        for o, y in zip(outvars, problem.outputs, strict=True)
    ]


def _offsets(state: Sequence[Any]) -> dict[Any, int]:
    out, total = {}, 0
    for v in state:
        out[v] = total
        total += size(v)
    return out


register_method("chain", supports=supports, cost=cost, build=build)
