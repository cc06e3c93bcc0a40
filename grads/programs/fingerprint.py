"""A hashable key that two traced programs share exactly when they compute the same thing.

Variables are numbered in order of definition; parameters are compared by value; nested programs are walked; arrays held
inside them, and functions (the rules of custom derivatives), are compared by what they are: the same object.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Var, primal_dtype_to_tangent_dtype

from grads.programs.graph import Graph, apply_equation
from grads.programs.primitives import CUSTOM, is_program, opened

_DEEPEST = 4  # rules within rules that are followed


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
    return _program(graph.constvars, graph.invars, graph.eqns, graph.outvars, ())


def _aval(v: Any) -> tuple:
    return v.aval.shape, str(v.aval.dtype), bool(getattr(v.aval, "weak_type", False))


def _program(constvars: Sequence, invars: Sequence, eqns: Sequence, outvars: Sequence, above: tuple) -> tuple:
    numbers: dict[Any, int] = {}
    for v in (*constvars, *invars):
        numbers[v] = len(numbers)

    def atom(v: Any) -> Any:
        if isinstance(v, Var):
            return numbers[v]
        value = np.asarray(v.val)
        return ("literal", value.dtype.str, value.shape, value.tobytes(), _aval(v))

    body = []
    for e in eqns:
        ins = tuple(atom(v) for v in e.invars)
        for o in e.outvars:
            numbers[o] = len(numbers)
        body.append((e.primitive.name, ins, tuple(_aval(o) for o in e.outvars), _params(e, above)))
    heads = tuple(_aval(v) for v in (*constvars, *invars))
    return heads, len(constvars), tuple(body), tuple(atom(v) for v in outvars)


def _params(eqn: Any, above: tuple) -> Any:
    plain = lambda: tuple((k, value_key(v, above)) for k, v in sorted(eqn.params.items()))
    if eqn.primitive.name not in CUSTOM:
        return plain()
    called = value_key(eqn.params["call_jaxpr"], above)
    if called in above:
        return "the function whose rule this is"
    if len(above) >= _DEEPEST:  # a rule that calls its function, which is new at every trace (a callback's lambda)
        return plain()
    rule = rule_program(eqn)
    return plain() if rule is None else (called, value_key(rule, (*above, called)))


def rule_program(eqn: Any) -> Any:
    """The traced derivative of an equation with a custom rule; None if untraceable.

    For custom_jvp a function of (values, tangents), for custom_vjp of (values, cotangents). A custom rule is a new
    function object at each trace, so two of them are compared by the programs they trace to.
    """
    reverse = eqn.primitive.name == "custom_vjp_call"
    like = lambda variables: [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in variables]
    tangent = lambda a: jax.ShapeDtypeStruct(a.shape, primal_dtype_to_tangent_dtype(a.dtype))
    avals = like(eqn.invars)
    count, run = len(avals), lambda *values: apply_equation(eqn, values)
    moved = [i for i, a in enumerate(avals) if jnp.issubdtype(a.dtype, jnp.inexact)]

    def push(*xs):
        return jax.jvp(run, xs[:count], xs[count:])

    def pull(*xs):  # with respect to the real operands: the others have no cotangent
        def of_moved(*some):
            values = list(xs[:count])
            for i, value in zip(moved, some, strict=True):
                values[i] = value
            out = run(*values)
            return tuple(out) if isinstance(out, (list, tuple)) else (out,)

        values, back = jax.vjp(of_moved, *(xs[i] for i in moved))
        return values, back(tuple(xs[count:]))

    seeds = map(tangent, like(eqn.outvars) if reverse else avals)
    try:
        return jax.make_jaxpr(pull if reverse else push)(*avals, *seeds)
    except (TypeError, ValueError, NotImplementedError, jax.errors.JAXTypeError):
        return None


def value_key(v: Any, above: tuple = ()) -> Any:
    """A hashable key of a parameter of an equation."""
    if v is None or isinstance(v, (bool, int, float, str)):
        return type(v).__name__, v
    if isinstance(v, (tuple, list)):
        return type(v).__name__, tuple([value_key(x, above) for x in v])
    if is_program(v):
        jaxpr, consts = opened(v)
        key = _program(jaxpr.constvars, jaxpr.invars, jaxpr.eqns, jaxpr.outvars, above)
        return key, tuple(_Same(c) for c in consts)
    if isinstance(v, dict):
        return tuple((k, value_key(x, above)) for k, x in v.items())
    if isinstance(v, (np.ndarray, jax.Array)):
        return _Same(v)
    try:
        hash(v)
    except TypeError:
        return _Same(v)
    return type(v).__name__, v
