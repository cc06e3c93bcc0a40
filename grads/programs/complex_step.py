"""Evaluation of a real program at complex arguments, for the complex step.

Analytic primitives are applied as they are. Comparisons, maxima and absolute values look at real parts and pick a
branch, so piecewise analytic functions keep their derivative. Anything else is refused by name rather than guessed.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import Var

from grads.programs.graph import Graph, build_graph, is_float
from grads.programs.primitives import ANALYTIC, BILINEAR, CALLS, COMPARISONS, MOVES, ZERO_SLOPE, programs, scan_counts

__all__ = ["complex_evaluate", "unsupported"]

_OWN = frozenset("abs max min reduce_max reduce_min convert_element_type scan".split())
_MORE = frozenset("reduce_sum reduce_prod cumsum dynamic_update_slice tile optimization_barrier".split())
_LINEAR = frozenset(("scatter", "scatter-add"))
_REAL_ONLY = ZERO_SLOPE | COMPARISONS | {"argmax", "argmin"}
_KNOWN = ANALYTIC | MOVES | _MORE | _LINEAR | BILINEAR | _REAL_ONLY | _OWN


def unsupported(eqns: Iterable[Any]) -> str | None:
    """Return the name of the first primitive that touches real values and has no rule here, or None."""
    for eqn in eqns:
        name = eqn.primitive.name
        if name in CALLS or name == "scan":
            if inner := unsupported(_inner(eqn).eqns):
                return inner
        elif name not in _KNOWN and any(is_float(v.aval) for v in eqn.invars):
            return name
    return None


def _inner(eqn: Any) -> Graph:
    return build_graph(programs(eqn)[0])


def complex_evaluate(graph: Graph, constants: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
    """Evaluate the program, complex where the leaves are."""
    env = dict(zip((*graph.constvars, *graph.invars), (*constants, *leaves), strict=True))
    read = lambda v: env[v] if isinstance(v, Var) else jnp.asarray(v.val, v.aval.dtype)
    for eqn in graph.eqns:
        values = [read(v) for v in eqn.invars]
        if any(map(jnp.iscomplexobj, values)):
            outs = _step(graph, eqn, values)
        else:
            outs = graph.apply(eqn, env)
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(v) for v in graph.outvars]


def _step(graph: Graph, eqn: Any, values: list) -> list:
    name = eqn.primitive.name
    if name in CALLS:
        inner = _inner(eqn)
        return complex_evaluate(inner, inner.constants, values)
    if name == "scan":
        return _scan(eqn, values)
    if name in _REAL_ONLY:
        return _bind(eqn, [jnp.real(v) for v in values])
    if name == "convert_element_type":
        keep = jnp.issubdtype(eqn.params["new_dtype"], jnp.floating)
        return [values[0]] if keep else _bind(eqn, [jnp.real(values[0])])
    if name == "abs":
        return [jnp.where(jnp.real(values[0]) < 0, -values[0], values[0])]
    if name in ("max", "min"):
        a, b = values
        first = jnp.real(a) >= jnp.real(b) if name == "max" else jnp.real(a) <= jnp.real(b)
        return [jnp.where(first, a, b)]
    if name in ("reduce_max", "reduce_min"):
        axes = tuple(eqn.params["axes"])
        real = jnp.real(values[0])
        best = (jnp.max if name == "reduce_max" else jnp.min)(real, axes, keepdims=True)
        chosen = real == best
        return [jnp.sum(jnp.where(chosen, values[0], 0), axes) / jnp.sum(chosen, axes)]
    if name in _LINEAR:
        pairs = list(zip(values, eqn.invars, strict=True))
        take = lambda part: [part(v) if is_float(var.aval) else v for v, var in pairs]
        return _joined(_bind(eqn, take(jnp.real)), _bind(eqn, take(jnp.imag)))
    if name in BILINEAR:
        return _product(eqn, *values)
    kind = jnp.result_type(*(v for v in values if jnp.iscomplexobj(v)))
    lifted = zip(values, eqn.invars, strict=True)
    return _bind(eqn, [v.astype(kind) if is_float(var.aval) else v for v, var in lifted])


def _joined(real: list, imaginary: list) -> list:
    return [lax.complex(a, b) for a, b in zip(real, imaginary, strict=True)]


def _product(eqn: Any, a: Any, b: Any) -> list:
    """(a_r + i a_i)(b_r + i b_i) by real products: fused complex ones cancel the tiny imaginary part."""
    times = lambda x, y: _bind(eqn, [x, y])[0]
    imaginary = []
    if jnp.iscomplexobj(a):
        imaginary.append(times(jnp.imag(a), jnp.real(b)))
    if jnp.iscomplexobj(b):
        imaginary.append(times(jnp.real(a), jnp.imag(b)))
    return [lax.complex(times(jnp.real(a), jnp.real(b)), sum(imaginary[1:], start=imaginary[0]))]


def _bind(eqn: Any, values: list) -> list:
    out = eqn.primitive.bind(*values, **eqn.params)
    return list(out) if eqn.primitive.multiple_results else [out]


def _scan(eqn: Any, values: list) -> list:
    """Run the loop with a complex carry; what is real and stays real costs a zero imaginary part."""
    p, inner = eqn.params, _inner(eqn)
    held, carried = scan_counts(p)
    kind = jnp.result_type(*(v for v in values if jnp.iscomplexobj(v)))
    lift = lambda v: v.astype(kind) if jnp.issubdtype(v.dtype, jnp.floating) else v
    constants, start, rows = values[:held], values[held : held + carried], values[held + carried :]

    def body(carry: tuple, row: tuple) -> tuple[tuple, tuple]:
        out = complex_evaluate(inner, inner.constants, (*constants, *carry, *row))
        return tuple(map(lift, out[:carried])), tuple(out[carried:])

    final, stacked = lax.scan(body, tuple(map(lift, start)), tuple(rows), p["length"], reverse=p["reverse"])
    return [*final, *stacked]
