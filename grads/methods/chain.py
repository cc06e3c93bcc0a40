"""The method `chain`: local Jacobians between cuts, multiplied in the cheapest order.

`chain` cuts the program, plans with `grads.methods.order` and emits: one forward sweep that differentiates each group
of segments as the plan needs it (jvp, vjp, a diagonal, a weight matrix), then tangents, adjoints and products. Nothing
of the analysis can change the result: a segment of unproved structure is differentiated by JAX itself.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import DropVar, Var

from grads.calls.forms import cut
from grads.calls.problem import FlatProblem
from grads.costs.cost import Cost, fresh
from grads.costs.machine import Machine, Number, current
from grads.costs.work import derivative_work
from grads.matrices.factored import (
    DenseFactor,
    DiagonalFactor,
    Factor,
    Factored,
    IdentityFactor,
    SelectionFactor,
    multiply,
)
from grads.methods.order import JacobianChain, Step, bracket
from grads.methods.plain import mapped, unit_vectors
from grads.methods.registry import register_method
from grads.programs.cuts import end_state, segments
from grads.programs.graph import varying
from grads.programs.local import LINEARISED, Segment, selected, weight_matrix


def supports(problem: FlatProblem) -> str | None:
    """A chain needs at least two segments, real values and no side effects."""
    if problem.graph.effects:
        return "the function has side effects, which cannot be split: use 'fwd' or 'rev'"
    if problem.no_derivative:
        return problem.no_derivative
    if problem.linearity != "linear":
        way = "is not seen to be linear, and is not cut"
        return problem.unit_only or f"a custom derivative rule {way}: use 'fwd' or 'rev'"
    if problem.is_complex:
        return "a complex value lies on the way of the derivative: use 'fwd' or 'rev'"
    if not end_state(problem.graph) or not problem.graph.live[0]:
        return "no output depends on the input: use 'fwd'"
    parts = segments_of(problem)
    if not parts:
        return "the function returns its input: use 'fwd'"
    if len(parts) < 2 and not any(s.structured for s in parts):
        inside = parts[0].eqns[0].primitive.name if len(parts[0].eqns) == 1 else "the program"
        return f"nothing to split: {inside!r} is one piece without a cut; use 'fwd' or 'rev'"
    return None


LOOPED = 16  # columns at a time at most, where a loop is faster


def plan_chain(problem: FlatProblem) -> JacobianChain:
    """The segments of a problem and their cheapest bracketing on this machine.

    Where a kind of operation has another rate in a loop (transposed convolutions, on a CPU), the passes of many columns
    may be looped over chunks: the cheaper of both plans.
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


def _loops_matter(problem: FlatProblem, machine: Machine) -> bool:
    if machine.looped or not machine.variants:
        return False
    return "conv_general_dilated" in problem.primitives and max(problem.n, problem.m) > 1


def segments_of(problem: FlatProblem) -> tuple[Segment, ...]:
    """The program between its cuts."""
    return problem.once("segments", lambda: tuple(segments(problem.graph)))


def _planned(problem: FlatProblem, machine: Machine) -> JacobianChain:
    make = lambda: bracket(segments_of(problem), problem.graph.active, machine, problem.dtype.itemsize)
    return problem.once(("chain", machine), make)


def root_of(problem: FlatProblem, chain: JacobianChain) -> Step:
    """The last step of the plan: a kept product when the user asked for factors."""
    return chain.factored if problem.options.factored else chain.root


def cost(problem: FlatProblem) -> Cost:
    """Time and operations of the plan; memory of its widest step."""
    chain = plan_chain(problem)
    return step_cost(problem, chain, root_of(problem, chain))


def step_cost(problem: FlatProblem, chain: JacobianChain, root: Step) -> Cost:
    """Cost of a step and of the steps it builds on, with the chunk that meets the memory limit."""
    works, machine, itemsize = derivative_work(problem, False), current(), problem.dtype.itemsize
    primal = machine.seconds(works, 1)
    made = [s for s in chain.walk(root) if s.action != "leaf"]  # a leaf is never written out
    moved = sum([(chain.widths[s.start] * chain.widths[s.stop] + chain.held(s)) * itemsize for s in made])
    chunk = chunk_of(problem, chain, root)
    memory = _memory(problem, chain, root, chunk)
    spread = problem.output_bytes / machine.bandwidth if root.form != "dense" and not problem.options.factored else 0.0
    seconds = root.seconds + primal + spread
    if problem.options.mapped > 1:
        seconds += fresh(problem, memory, moved)
    return Cost(root.operations, moved, seconds, memory, chunk)


def _memory(problem: FlatProblem, chain: JacobianChain, root: Step, chunk: int | None) -> Number:
    kept = root.form != "dense" and problem.options.factored  # a diagonal stays a vector
    out = 0.0 if kept else problem.output_bytes
    return chain.peak(root, chunk) * problem.dtype.itemsize + problem.value_bytes + out


def chunk_of(problem: FlatProblem, chain: JacobianChain, root: Step) -> int | None:
    """Columns at once: the user's, else the most that fits the memory limit (None: all), or the plan's own."""
    limit = problem.options.memory_limit
    if problem.options.chunk_size is not None or limit is None:
        return problem.options.chunk_size or chain.chunk
    options = [None, 256, 64, 16, 4, 1]
    return next((c for c in options if _memory(problem, chain, root, c) <= limit), 1)


@dataclass
class _Group:
    """Consecutive segments that the plan always uses together, and what it needs of them."""

    start: int
    stop: int
    needs: set[str] = field(default_factory=set)
    push: Callable | None = None
    pull: Callable | None = None
    local: Factor | None = None


def build(problem: FlatProblem) -> Callable:
    """Emit the plan as a function of constants and leaves."""
    chain = plan_chain(problem)
    return emit(problem, chain, root_of(problem, chain))


def emit(problem: FlatProblem, chain: JacobianChain, root: Step) -> Callable:
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
        outs = [env[v] if isinstance(v, Var) else jnp.asarray(v.val, v.aval.dtype) for v in graph.outvars]
        return outs, _embed(problem, jac)

    return evaluate


def _dropped(v: Any) -> bool:
    return isinstance(v, DropVar)


def _groups(chain: JacobianChain, root: Step) -> list[_Group]:
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


def _sweep(problem: FlatProblem, chain: JacobianChain, group: _Group, env: dict) -> None:
    """Evaluate a group, adding all its values to `env`, and differentiate it as the plan needs."""
    parts = chain.segments[group.start : group.stop]
    eqns = [e for s in parts for e in s.eqns]
    ins, outs = parts[0].ins, parts[-1].outs
    inside = list(dict.fromkeys(o for e in eqns for o in e.outvars if not _dropped(o)))
    reads = dict.fromkeys(v for e in eqns for v in e.invars if isinstance(v, Var))
    known = [v for v in reads if v not in set(inside) and v not in set(ins)]
    results = list(dict.fromkeys([*outs, *inside]))
    run = problem.graph.function(eqns, (*ins, *known), results)
    fixed = [env[v] for v in known]

    def primal(*xs):
        values = run(*xs, *fixed)
        return values[: len(outs)], values[len(outs) :]

    primal = jax.checkpoint(primal) if problem.options.remat else primal
    at = [env[v] for v in ins]
    if "push" in group.needs or (group.needs == {"local"} and parts[0].kind in LINEARISED):
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
        return IdentityFactor(segment.ins[0].aval.size)
    if segment.kind in LINEARISED:
        push, x = group.push, env[segment.ins[0]]
        assert push is not None  # the sweep linearised it
        if segment.kind == "diagonal":
            return DiagonalFactor(push(jnp.ones_like(x))[0].reshape(-1))
        index, size = selected(segment, push, x)
        return SelectionFactor(index, jnp.ones(index.shape, x.dtype), size, segment.kind == "spread")
    (eqn,) = (e for e in segment.eqns if e.primitive.name == "dot_general")
    other = eqn.invars[1 - eqn.invars.index(segment.ins[0])]
    value = env[other] if isinstance(other, Var) else jnp.asarray(other.val)
    return DenseFactor(*weight_matrix(eqn, segment.ins[0], value))


class _Emitter:
    """Turns steps into factors, given groups that have been swept."""

    def __init__(self, chain: JacobianChain, groups: list[_Group], chunk: int | None):
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
        stack = _rows(parts[0], forward, state) if parts else unit_vectors([v.aval for v in state])
        stack = varying(stack, [v.aval for v in state])
        inside = [g for g in self.groups if lo <= g.start and g.stop <= hi]

        def one(*xs):
            for g in inside if forward else reversed(inside):
                xs = g.push(*xs) if forward else g.pull(list(xs))
            return tuple(xs)

        stack = mapped(jax.vmap(one), stack, self.chunk)
        flat = [a.reshape(a.shape[0], -1) for a in stack]
        return DenseFactor(flat[0] if len(flat) == 1 else jnp.concatenate(flat, axis=1), transposed=forward)


def _rows(factor: Factor, forward: bool, state: Sequence[Any]) -> list[jax.Array]:
    """Columns of J (forward) or rows of J (reverse) as a stack of states."""
    if isinstance(factor, DenseFactor):
        matrix = factor.array if factor.transposed == forward else factor.array.mT
        if matrix is not factor.array and matrix.shape[0] <= matrix.shape[1]:
            matrix = jax.lax.optimization_barrier(matrix)  # a product reads it by rows (see `factored._matmul`)
    elif isinstance(factor, IdentityFactor):
        return unit_vectors([v.aval for v in state])
    else:
        matrix = factor.matrix.mT if forward else factor.matrix  # columns of J as rows of the stack
    avals = [v.aval for v in state]
    return [p.astype(a.dtype) for p, a in zip(cut(matrix, avals, 1), avals, strict=True)]


def _embed(problem: FlatProblem, jac: Factored) -> Any:
    """Place the Jacobian between the end states into the Jacobian of all outputs with respect to all inputs."""
    graph = problem.graph
    start, end = graph.live[0], end_state(graph)
    outvars = graph.outvars[: len(problem.outputs)]
    if start == graph.invars and end == outvars:
        return jac
    rows = cut(jac.materialize(), [v.aval for v in end], 0)
    known = {(o, i): block for o, row in zip(end, rows, strict=True)
             for i, block in zip(start, cut(row, [v.aval for v in start], -1), strict=True)}  # fmt: skip
    zero = lambda y, x: jnp.zeros((*y.shape, *x.shape), y.dtype)
    pick = lambda o, i, y, x: known[o, i] if isinstance(o, Var) and (o, i) in known else zero(y, x)
    return [
        [pick(o, i, y, x) for i, x in zip(graph.invars, problem.inputs, strict=True)]
        for o, y in zip(outvars, problem.outputs, strict=True)
    ]


register_method("chain", supports=supports, cost=cost, build=build)
