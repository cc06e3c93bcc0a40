"""A hashable key that two traced programs share exactly when they compute the same thing.

Variables are numbered in order of definition; parameters are compared by value; nested programs are walked; arrays held
inside them, and functions (the rules of custom derivatives), are compared by what they are: the same object.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Var

from grads.programs.graph import Graph
from grads.programs.primitives import CUSTOM, INLINED, is_program, opened
from grads.programs.rules import rule_program

_DEEPEST = 4  # rules within rules that are followed
_TABLE = 256  # numbers of a constant that is compared by value


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


_SHALLOW = ("by object",)
_SHORT = 64  # equations: a longer program is compared in full


def short_key(program: Any) -> tuple | None:
    """A key of a traced program in which the programs inside are the same objects (as a jitted function's are from call
    to call), so that a call of a long program costs no walk through it; None where that tells nothing.
    """
    jaxpr, _ = opened(program)
    inlined = any(e.primitive.name in INLINED for e in jaxpr.eqns)
    if not inlined or len(jaxpr.eqns) > _SHORT or any(e.primitive.name in CUSTOM for e in jaxpr.eqns):
        return None
    return _program(jaxpr.constvars, jaxpr.invars, jaxpr.eqns, jaxpr.outvars, _SHALLOW)


def _aval(v: Any) -> tuple:
    return v.aval.shape, v.aval.dtype, bool(getattr(v.aval, "weak_type", False))


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
    if len(above) >= _DEEPEST:  # an adjoint equation has an adjoint of its own, and so on: no derivative goes so deep
        return called
    rule = rule_program(eqn)
    return plain() if rule is None else (called, value_key(rule, (*above, called)))


def _held(c: Any) -> Any:
    """A small table of NumPy by its values (a solver's, made anew at every trace), other constants as objects."""
    small = isinstance(c, np.ndarray) and c.size <= _TABLE and c.dtype.kind in "fiub"
    return (c.dtype.str, c.shape, c.tobytes()) if small else _Same(c)


def value_key(v: Any, above: tuple = ()) -> Any:
    """A hashable key of a parameter of an equation."""
    if v is None or isinstance(v, (bool, int, float, str)):
        return type(v).__name__, v
    if isinstance(v, (tuple, list)):
        return type(v).__name__, tuple([value_key(x, above) for x in v])
    if is_program(v):
        if above is _SHALLOW:
            return _Same(v)
        jaxpr, consts = opened(v)
        key = _program(jaxpr.constvars, jaxpr.invars, jaxpr.eqns, jaxpr.outvars, above)
        return key, tuple(_held(c) for c in consts)
    if isinstance(v, dict):
        return tuple((k, value_key(x, above)) for k, x in v.items())
    if isinstance(v, (np.ndarray, jax.Array)):
        return _Same(v)
    try:
        hash(v)
    except TypeError:
        return _Same(v)
    return type(v).__name__, v
