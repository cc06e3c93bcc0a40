"""A hashable key that two traced programs share exactly when they compute the same thing.

Variables are numbered in order of definition; parameters are compared by value; nested programs are walked; arrays
held inside them, and functions (the rules of custom derivatives), are compared by what they are: the same object.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from grads.graph import Graph, is_var

_CUSTOM = ("custom_jvp_call",)


class _Same:
    """Compares equal only to a wrapper of the same object, which it keeps alive."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def fingerprint(graph: Graph) -> tuple:
    """The key of a graph."""
    return _program(graph.constvars, graph.invars, graph.eqns, graph.outvars)


def _aval(v: Any) -> tuple:
    return v.aval.shape, str(v.aval.dtype), bool(getattr(v.aval, "weak_type", False))


def _program(constvars: Sequence, invars: Sequence, eqns: Sequence, outvars: Sequence) -> tuple:
    numbers: dict[Any, int] = {}
    for v in (*constvars, *invars):
        numbers[v] = len(numbers)

    def atom(v: Any) -> Any:
        if is_var(v):
            return numbers[v]
        value = np.asarray(v.val)
        return ("literal", value.dtype.str, value.shape, value.tobytes(), _aval(v))

    body = []
    for e in eqns:
        ins = tuple(atom(v) for v in e.invars)
        for o in e.outvars:
            numbers[o] = len(numbers)
        body.append((e.primitive.name, ins, tuple(_aval(o) for o in e.outvars), _params(e)))
    heads = tuple(_aval(v) for v in (*constvars, *invars))
    return heads, len(constvars), tuple(body), tuple(atom(v) for v in outvars)


def _params(eqn: Any) -> Any:
    if eqn.primitive.name in _CUSTOM:
        return _custom_rule(eqn)
    return tuple((k, _value(v)) for k, v in sorted(eqn.params.items()))


def _custom_rule(eqn: Any) -> Any:
    """A custom derivative rule is a new function object at each trace: compare the program it traces to."""
    avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
    try:
        closed = jax.make_jaxpr(lambda p, t: jax.jvp(_caller(eqn), p, t))(avals, _tangents(avals))
    except Exception:  # a rule that cannot be traced so: no sharing
        return tuple((k, _value(v)) for k, v in sorted(eqn.params.items()))
    return eqn.primitive.name, _value(eqn.params["call_jaxpr"]), _value(closed)


def _caller(eqn: Any):
    from grads.graph import apply_equation

    return lambda *xs: apply_equation(eqn, xs)


def _tangents(avals: list) -> list:
    from jax.extend.core import primal_dtype_to_tangent_dtype

    return [jax.ShapeDtypeStruct(a.shape, primal_dtype_to_tangent_dtype(a.dtype)) for a in avals]


def _value(v: Any) -> Any:
    jaxpr = getattr(v, "jaxpr", v)
    if hasattr(jaxpr, "eqns") and hasattr(jaxpr, "invars"):
        consts = tuple(_Same(c) for c in getattr(v, "consts", ()))
        return _program(jaxpr.constvars, jaxpr.invars, jaxpr.eqns, jaxpr.outvars), consts
    if isinstance(v, (tuple, list)):
        return type(v).__name__, tuple(_value(x) for x in v)
    if isinstance(v, dict):
        return tuple((k, _value(x)) for k, x in v.items())
    if isinstance(v, (np.ndarray, jax.Array)):
        return _Same(v)
    try:
        hash(v)
    except TypeError:
        return _Same(v)
    return (type(v).__name__, v)
