"""What a custom derivative rule computes, read from the rule itself and not from the function that it replaces.

A rule may run a loop that cannot be transposed, hold a value of a trace that has ended, or not be linear (a clipped
gradient): the function's own program says nothing of these.
"""

from collections import OrderedDict
from collections.abc import Container, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Var, primal_dtype_to_tangent_dtype

from grads.programs.graph import apply_equation, build_graph, is_float
from grads.programs.primitives import (
    BILINEAR,
    CALLS,
    CUSTOM,
    FORWARD_ONLY,
    MOVES,
    PARTLY,
    REVERSE_ONLY,
    called,
    names_inside,
    opened,
    programs,
    scan_counts,
)

__all__ = ["LeakedRuleError", "blocked", "check_leaks", "linearity", "rule_program"]

_KEEP = 512  # rules remembered
_PROGRAMS: OrderedDict[Any, tuple[Any, Any]] = OrderedDict()
_ANSWERS: OrderedDict[Any, tuple[Any, Any]] = OrderedDict()

_ONE = MOVES | frozenset("neg convert_element_type reduce_sum cumsum real imag reduce_window_sum psum pvary".split())
_JOINT = frozenset("add add_any sub concatenate stack pad dynamic_update_slice scatter scatter-add complex".split())
_PRODUCTS = BILINEAR | {"mul", "div", "triangular_solve"}
_UNKNOWN = frozenset("while custom_linear_solve pure_callback io_callback shard_map pallas_call".split())


class LeakedRuleError(Exception):
    """A rule holds a value of the trace that made it (an array in `nondiff_argnums`), so the program has no rule."""


def _kept(store: OrderedDict, eqn: Any, make: Any, also: tuple = ()) -> Any:
    """`make()` for an equation, remembered by its parameters (the objects), its operands' shapes and what is `also`."""
    kept = tuple(eqn.params.values())  # kept alive with the answer, so that no other object has their ids
    key = (eqn.primitive.name, also, tuple((v.aval.shape, v.aval.dtype) for v in eqn.invars), *map(id, kept))
    if key not in store:
        store[key] = (kept, make())
        while len(store) > _KEEP:
            store.popitem(last=False)
    return store[key][1]


def rule_program(eqn: Any) -> Any:
    """The traced derivative of an equation with a custom rule; None if untraceable.

    For custom_jvp a function of (values, tangents), for custom_vjp of (values, cotangents). A custom rule is a new
    function object at each trace, so two of them are compared by the programs they trace to.
    """
    return _kept(_PROGRAMS, eqn, lambda: _traced_rule(eqn))


def _traced_rule(eqn: Any) -> Any:
    reverse = eqn.primitive.name in REVERSE_ONLY
    like = lambda variables: [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in variables]
    tangent = lambda a: jax.ShapeDtypeStruct(a.shape, primal_dtype_to_tangent_dtype(a.dtype))
    avals = like(eqn.invars)
    seeds = map(tangent, like(eqn.outvars) if reverse else avals)
    try:
        return jax.make_jaxpr(_pull(eqn) if reverse else _push(eqn))(*avals, *seeds)
    except Exception:  # the rule is the user's code: what cannot be traced cannot be seen through
        return None


def _push(eqn: Any) -> Any:
    count = len(eqn.invars)
    return lambda *xs: jax.jvp(lambda *values: apply_equation(eqn, values), xs[:count], xs[count:])


def _pull(eqn: Any, on: Sequence[int] | None = None) -> Any:
    """(values, cotangents) -> (results, cotangents of the real operands).

    The other operands have no cotangent; nor has what the function closed over, which comes first.
    """
    count, closed = len(eqn.invars), eqn.params.get("num_consts", 0)
    free = range(closed, count) if on is None else on
    moved = [i for i in free if is_float(eqn.invars[i].aval)]

    def pull(*xs):
        def of_moved(*some):
            values = list(xs[:count])
            for i, value in zip(moved, some, strict=True):
                values[i] = value
            out = apply_equation(eqn, values)
            return tuple(out) if isinstance(out, (list, tuple)) else (out,)

        values, back = jax.vjp(of_moved, *(xs[i] for i in moved))
        return values, back(tuple(xs[count:]))

    return pull


def custom_inside(eqns: Iterable[Any]) -> Iterable[Any]:
    """All equations with a custom rule, those inside loops, branches and calls included."""
    for e in eqns:
        if e.primitive.name in CUSTOM:
            yield e
        for inner in programs(e):
            yield from custom_inside(opened(inner)[0].eqns)


def check_leaks(eqns: Iterable[Any], ended: Any) -> None:
    """Raise LeakedRuleError where a rule holds a value of the trace `ended`, or of one that ran inside it."""
    for e in custom_inside(eqns):
        rule = rule_program(e)
        for c in () if rule is None else rule.consts:
            trace = getattr(c, "_trace", None)
            while trace is not None and ended is not None:
                if trace is ended:
                    raise LeakedRuleError(f"the rule of a {e.primitive.name} holds an array of its own call")
                trace = getattr(trace, "parent_trace", None)


def blocked(eqn: Any, reverse: bool, active: Container[Any] | None = None) -> str | None:
    """Name of the first primitive in an equation that has no derivative in this direction, or None.

    JAX transposes a few primitives with respect to some operands only (`pad` never by its value alone): these are
    asked of JAX, for the operands that are `active` (default: all).
    """
    name = eqn.primitive.name
    if reverse and (found := names_inside(eqn) & PARTLY):
        on = tuple(i for i, v in enumerate(eqn.invars) if isinstance(v, Var) and (active is None or v in active))
        if not _kept(_ANSWERS, eqn, lambda: _transposes(eqn, on), on):
            return min(found)
    if name in (FORWARD_ONLY if reverse else REVERSE_ONLY):
        return name
    if name in CUSTOM:
        if not reverse or name in REVERSE_ONLY or linearity(eqn) == "linear":
            return None
        return None if _kept(_ANSWERS, eqn, lambda: _transposes(eqn)) else name
    inner = (blocked(e, reverse) for p in programs(eqn) for e in opened(p)[0].eqns)
    return next((found for found in inner if found), None)


def _transposes(eqn: Any, on: Sequence[int] | None = None) -> bool:
    """True when an equation can be differentiated in reverse with respect to its operands `on` (all by default)."""
    like = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in (*eqn.invars, *eqn.outvars)]
    seeds = [jax.ShapeDtypeStruct(a.shape, primal_dtype_to_tangent_dtype(a.dtype)) for a in like[len(eqn.invars) :]]
    try:
        jax.eval_shape(_pull(eqn, on), *like[: len(eqn.invars)], *seeds)
    except Exception:
        return False
    return True


def linearity(eqn: Any) -> str:
    """ "linear" where a custom rule is proved linear in its tangents (cotangents), "nonlinear" where it is seen not to
    be, else "unknown".
    """
    rule = rule_program(eqn)
    if rule is None:
        return "unknown"
    return _kept(_LINEAR, eqn, lambda: _linear_rule(rule, len(eqn.invars), eqn.primitive.name in REVERSE_ONLY, eqn))


_LINEAR: OrderedDict[Any, tuple[Any, Any]] = OrderedDict()


def _linear_rule(rule: Any, values: int, reverse: bool, eqn: Any) -> str:
    graph = build_graph(rule)
    kinds = {v: "linear" for v in graph.invars[values:] if is_float(v.aval)}
    try:
        _follow(graph.eqns, kinds)
    except _Undecided as reason:
        return str(reason)
    results = len(eqn.outvars)  # before the derivatives come the function's own results
    own = [v for v in graph.outvars[results:] if is_float(v.aval)]
    return "linear" if all(_kind(v, kinds) in ("linear", "zero") for v in own) else "nonlinear"


class _Undecided(Exception):
    """ "nonlinear" or "unknown"."""


def _kind(v: Any, kinds: dict) -> str | None:
    """ "linear", "zero", or None for a value without tangent."""
    if isinstance(v, Var):
        return kinds.get(v)
    return "zero" if not jnp.shape(v.val) and v.val == 0 else None


def _follow(eqns: Sequence[Any], kinds: dict) -> None:
    """Extend `kinds` over equations; raise _Undecided where something is not seen to be linear."""
    for e in eqns:
        given = [_kind(v, kinds) for v in e.invars]
        name = e.primitive.name
        if "linear" not in given:
            if name in _ONE and given and given[0] == "zero":
                kinds.update(dict.fromkeys(e.outvars, "zero"))
            elif name == "mul" and "zero" in given:
                kinds[e.outvars[0]] = "zero"
            continue
        out = _linear_step(e, name, given)
        out = out if isinstance(out, list) else [out] * len(e.outvars)
        kinds.update((v, k) for v, k in zip(e.outvars, out, strict=True) if k is not None)


def _linear_step(eqn: Any, name: str, given: list) -> Any:
    """Kinds of the results of an equation with a linear operand."""
    sure = lambda ok: "linear" if ok else _undecided("nonlinear")
    if name in _ONE:
        return sure(given[0] == "linear" and "linear" not in given[1:] and is_float(eqn.outvars[0].aval))
    if name in _JOINT:
        where = [k for k, v in zip(given, eqn.invars, strict=True) if is_float(v.aval)]
        return sure(all(where))
    if name == "select_n":
        return sure(given[0] != "linear" and all(given[1:]))
    if name in _PRODUCTS:
        ok = given.count("linear") == 1 and not (name == "div" and given[1] == "linear")
        return sure(ok and not (name == "triangular_solve" and given[0] == "linear"))
    if name == "scan":
        return _linear_scan(eqn, given)
    if name == "cond":
        if given[0] == "linear":
            return _undecided("nonlinear")
        options = [_inside(b, given[1:]) for b in eqn.params["branches"]]
        return [_joined(c) for c in zip(*options, strict=True)]
    if name in CALLS or called(eqn) is not None:
        return _inside(called(eqn), given) if name not in _UNKNOWN else _undecided("unknown")
    if name == "stop_gradient":
        return "linear"
    return _undecided("unknown" if name in _UNKNOWN or programs(eqn) else "nonlinear")


def _undecided(word: str) -> Any:
    raise _Undecided(word)


def _joined(kinds: Sequence[str | None]) -> str | None:
    if "linear" not in kinds:
        return kinds[0] if len(set(kinds)) == 1 else None
    return "linear" if all(kinds) else _undecided("nonlinear")


def _inside(program: Any, given: Sequence[str | None]) -> list[str | None]:
    graph = build_graph(program)
    kinds = {v: k for v, k in zip(graph.invars, given, strict=True) if k is not None}
    _follow(graph.eqns, kinds)
    return [_kind(v, kinds) for v in graph.outvars]


def _linear_scan(eqn: Any, given: list) -> list:
    held, carried = scan_counts(eqn.params)
    carry = given[held : held + carried]
    for _ in range(carried + 1):
        out = _inside(eqn.params["jaxpr"], [*given[:held], *carry, *given[held + carried :]])
        new = [_joined((a, b)) for a, b in zip(carry, out[:carried], strict=True)]
        if new == carry:
            return [*carry, *out[carried:]]
        carry = new
    return _undecided("unknown")
