"""A traced function as one flat list of equations, with activity and live sets.

Calls that only group equations (jit, closed calls) are inlined, so that every equation boundary is a possible place to
cut. Calls that carry a meaning of their own (custom derivatives, checkpoints, loops, branches) stay single equations:
inlining them would change the derivative or the memory. Sources: Griewank & Walther, Evaluating Derivatives, ch. 6
(activity), and Naumann, arXiv 2406.11862 (chains of local Jacobians).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jexc
from jax.extend.core import Var

from grads.programs.primitives import INLINED, STOPPED, called, opened


def is_float(aval: Any) -> bool:
    """True for a dtype that carries a derivative (real or complex floating point)."""
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def manual_axes(x: Any) -> frozenset:
    """The mesh axes over which a value (or its type) varies, inside `jax.shard_map`; none outside."""
    return getattr(getattr(x, "manual_axis_type", None), "varying", None) or frozenset()


def varying(values: Sequence[Any], like: Sequence[Any]) -> list[Any]:
    """Return arrays that vary over the mesh axes that others (or their types) vary over, as JAX asks of seeds."""
    missing = [manual_axes(jax.typeof(y) if isinstance(y, jax.Array) else y) for y in like]
    pairs = [(x, tuple(axes - manual_axes(jax.typeof(x)))) for x, axes in zip(values, missing, strict=True)]
    return [jax.lax.pcast(x, axes, to="varying") if axes else x for x, axes in pairs]


def examples_outside(values: Iterable[Any]) -> int:
    """How many examples an outer `vmap` (or several) gives at once, rounded down to a power of two; 1 outside of it."""
    counts = [1]
    for x in values:
        count = 1
        while isinstance(x, jax.core.Tracer):  # a tracer of vmap holds the batch, one of grad the value it follows
            count *= getattr(getattr(getattr(x, "_trace", None), "axis_data", None), "size", None) or 1
            x = getattr(x, "val", getattr(x, "primal", None))
        counts.append(count)
    return 1 << (max(counts).bit_length() - 1)


def _function(eqns: Iterable[Any], inputs: Sequence[Any], outputs: Sequence[Any], effects: Any) -> Callable:
    """Return the function (*inputs) -> outputs of some equations; the names are for JAX to print in errors."""
    names = [tuple(f"{kind}{i}" for i in range(len(vs))) for kind, vs in (("x", inputs), ("y", outputs))]
    info = jexc.DebugInfo("grads", "a piece of the traced program", *names)
    jaxpr = jexc.Jaxpr((), list(inputs), list(outputs), list(eqns), effects, info)
    return jexc.jaxpr_as_fun(jexc.ClosedJaxpr(jaxpr, ()))


def width(state: Iterable[Any]) -> int:
    """Total size of some variables."""
    return sum([v.aval.size for v in state])


@dataclass(frozen=True)
class Graph:
    """The inlined program: `constvars` and `invars` in, `eqns` in order, `outvars` (variables or literals) out.

    `constants` are values found inside inlined calls; they belong to the last `len(constants)` of `constvars`.
    """

    constvars: tuple[Any, ...]
    invars: tuple[Any, ...]
    eqns: tuple[Any, ...]
    outvars: tuple[Any, ...]
    constants: tuple[Any, ...]
    effects: frozenset

    @cached_property
    def _activity(self) -> tuple[tuple, tuple, frozenset]:
        depends, active = set(self.invars), {v for v in self.invars if is_float(v.aval)}
        prologue, body = [], []
        for e in self.eqns:
            if not any(isinstance(v, Var) and v in depends for v in e.invars):
                prologue.append(e)
                continue
            body.append(e)
            depends.update(e.outvars)
            if e.primitive.name not in STOPPED and any(isinstance(v, Var) and v in active for v in e.invars):
                active.update(o for o in e.outvars if is_float(o.aval))
        return tuple(prologue), tuple(body), frozenset(self._reaching(body, active))

    def _reaching(self, body: Sequence[Any], active: set) -> set:
        """Those active variables through which an output depends on the inputs."""
        useful = {v for v in self.outvars if isinstance(v, Var) and v in active}
        for e in reversed(body):
            if e.primitive.name not in STOPPED and any(o in useful for o in e.outvars):
                useful.update(v for v in e.invars if isinstance(v, Var) and v in active)
        return useful

    @property
    def prologue(self) -> tuple[Any, ...]:
        """The equations that do not depend on the differentiated inputs."""
        return self._activity[0]

    @property
    def body(self) -> tuple[Any, ...]:
        """The equations that depend on the differentiated inputs, in order."""
        return self._activity[1]

    @property
    def active(self) -> frozenset:
        """The variables through which a derivative flows."""
        return self._activity[2]

    @cached_property
    def live(self) -> tuple[tuple[Any, ...], ...]:
        """Live active variables at each boundary 0..len(body): defined before it and needed after it, in order."""
        active, body = self.active, self.body
        needed = {v for v in self.outvars if isinstance(v, Var) and v in active}
        sets = [needed]
        for e in reversed(body):
            needed = (needed - set(e.outvars)) | {v for v in active_inputs(e, active) if _carries(e, active)}
            sets.append(needed)
        order = {v: i for i, v in enumerate([*self.invars, *(o for e in body for o in e.outvars)])}
        return tuple(tuple(sorted(s, key=order.__getitem__)) for s in reversed(sets))

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Total size of the live active values at each boundary."""
        return tuple([width(state) for state in self.live])

    @cached_property
    def adds_over_mesh(self) -> bool:
        """True where an output varies over a mesh axis that an input does not: JAX's reverse pass sums over it."""
        inputs = [manual_axes(v.aval) for v in self.invars]
        outputs = [manual_axes(v.aval) for v in self.outvars if is_float(v.aval)]
        return any(not out <= axes for out in outputs for axes in inputs)

    def function(self, eqns: Iterable[Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> Callable:
        """Return the function (*inputs) -> list of outputs evaluated by these equations."""
        return _function(eqns, inputs, outputs, self.effects)

    def apply(self, eqn: Any, values: Mapping[Any, Any]) -> list[Any]:
        """Evaluate one equation on the values of its variables."""
        variables = list(dict.fromkeys([v for v in eqn.invars if isinstance(v, Var)]))
        return self.function([eqn], variables, eqn.outvars)(*[values[v] for v in variables])

    def evaluate(self, constants: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
        """Evaluate the whole program."""
        return self.function(self.eqns, (*self.constvars, *self.invars), self.outvars)(*constants, *leaves)


def active_inputs(eqn: Any, active: frozenset | set) -> list[Any]:
    """The distinct active operands of an equation."""
    return list(dict.fromkeys(v for v in eqn.invars if isinstance(v, Var) and v in active))


def _carries(eqn: Any, active: frozenset) -> bool:
    return any(o in active for o in eqn.outvars)


def build_graph(program: Any) -> Graph:
    """Inline the plain calls of a program (a jaxpr, closed or not)."""
    outer, _ = opened(program)
    eqns: list[Any] = []
    constvars, constants = list(outer.constvars), []

    def walk(jaxpr: Any, names: dict) -> Callable:
        def read(v: Any) -> Any:
            return names.get(v, v) if isinstance(v, Var) else v

        for e in jaxpr.eqns:
            inner = called(e) if e.primitive.name in INLINED else None
            if inner is None:
                fresh = [o if isinstance(o, jexc.DropVar) else jexc.Var(o.aval) for o in e.outvars]
                names.update(zip(e.outvars, fresh, strict=True))
                eqns.append(e.replace(invars=[read(v) for v in e.invars], outvars=fresh))
                continue
            body, values = opened(inner)
            local = dict(zip(body.invars, map(read, e.invars), strict=True))
            for var, value in zip(body.constvars, values, strict=True):
                local[var] = jexc.Var(var.aval)
                constvars.append(local[var])
                constants.append(value)
            out = walk(body, local)
            names.update(zip(e.outvars, map(out, body.outvars), strict=True))
        return read

    read = walk(outer, {})
    return Graph(
        tuple(constvars),
        tuple(outer.invars),
        tuple(eqns),
        tuple(read(v) for v in outer.outvars),
        tuple(constants),
        frozenset(outer.effects),
    )


def trace(fun: Callable, leaves: Sequence[Any]) -> tuple[Graph, tuple[Any, ...]]:
    """Trace `fun(*leaves) -> tuple of arrays` and return its graph and the values of its constants."""
    return opened_graph(jax.make_jaxpr(lambda *xs: tuple(fun(*xs)))(*leaves))


def opened_graph(closed: Any) -> tuple[Graph, tuple[Any, ...]]:
    """Return the graph of a traced program and the values of its constants."""
    graph = build_graph(closed)
    return graph, (*closed.consts, *graph.constants)


def apply_equation(eqn: Any, operands: Sequence[Any]) -> Any:
    """Evaluate one equation on values for all its operands; returns one value or a list."""
    fresh = [jexc.Var(v.aval) for v in eqn.invars]
    outs = [jexc.Var(o.aval) for o in eqn.outvars]
    return _function([eqn.replace(invars=fresh, outvars=outs)], fresh, outs, eqn.effects)(*operands)
