"""The program of one example, from a function of a batch.

The user's function is traced again with a batch of one, and the two programs are compared equation by equation: they
must be the same but for the size of the batch axis, which `grads.programs.independence` has found in every value. Then
the Jacobian of one example (by any method, mapped over the examples) is the Jacobian of each example of the batch. A
function that uses the size of its batch (a mean over examples) or a constant with one row per example differs, and is
then differentiated as a whole.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Var

from grads.calls.problem import FlatProblem
from grads.programs.fingerprint import rule_program, value_key
from grads.programs.graph import Graph, build_graph, trace
from grads.programs.independence import NotIndependentError, axes_inside, batch_axes, follow, followed
from grads.programs.primitives import ELEMENTWISE, opened

_SIZES = frozenset({"shape", "new_sizes", "slice_sizes", "limit_indices", "sizes"})
_CONSTANT_ALONG = ELEMENTWISE | {"broadcast_in_dim"}


def one_example(problem: FlatProblem, axes: dict[Any, int], constants: Sequence[Any]) -> FlatProblem | None:
    """Return the problem of a batch of one with the same constants, or None when it is another program."""
    graph = problem.graph
    where = [axes[v] for v in graph.invars]
    small = [_with_size(a, axis, 1) for a, axis in zip(problem.inputs, where, strict=True)]
    try:
        one, values = trace(problem.session["fun"], small)
    except Exception:  # a function that only accepts its own batch size
        return None
    if not _same_constants(constants, values) or not same_program(graph, one, axes):
        return None
    outs = tuple(_with_size(a, axes[v], 1) for a, v in zip(problem.outputs, graph.outvars, strict=False))
    options = replace(problem.options, batch_axis=None, memory_limit=None, chunk_size=None)
    return FlatProblem(one, tuple(small), outs, problem.aux, options)


def _with_size(aval: Any, axis: int, size: int) -> jax.ShapeDtypeStruct:
    shape = list(aval.shape)
    shape[axis] = size
    return jax.ShapeDtypeStruct(tuple(shape), aval.dtype)


def _same_constants(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(_same_value(x, y) for x, y in zip(a, b, strict=True))


def _same_value(x: Any, y: Any) -> bool:
    if x is y:
        return True
    if isinstance(x, jax.core.Tracer) or isinstance(y, jax.core.Tracer):
        return False
    if jnp.shape(x) != jnp.shape(y) or not jnp.issubdtype(jnp.result_type(x), np.number):
        return False
    return bool(np.array_equal(np.asarray(x), np.asarray(y)))


def same_program(big: Graph, one: Graph, axes: dict[Any, int], above: tuple = ()) -> bool:
    """True when `one` is `big` with every batch axis of size one."""
    if any(
        len(x) != len(y) for x, y in ((big.eqns, one.eqns), (big.outvars, one.outvars), (big.constvars, one.constvars))
    ):
        return False
    pair = dict(zip((*big.constvars, *big.invars), (*one.constvars, *one.invars), strict=True))
    differs = {v for v in big.invars if v in axes}
    for a, b in zip(big.eqns, one.eqns, strict=True):
        if a.primitive.name != b.primitive.name or len(a.outvars) != len(b.outvars):
            return False
        if not all(_same_atom(x, y, pair) for x, y in zip(a.invars, b.invars, strict=True)):
            return False
        if not _same_params(a, b, axes, above):
            return False
        for x, y in zip(a.outvars, b.outvars, strict=True):
            pair[x] = y
            if not _shape_fits(x, y, axes, differs, a):
                return False
    return all(_same_atom(x, y, pair) for x, y in zip(big.outvars, one.outvars, strict=True))


def _same_atom(x: Any, y: Any, pair: dict) -> bool:
    if isinstance(x, Var) or isinstance(y, Var):
        return pair.get(x) is y if isinstance(x, Var) else False
    return np.array_equal(np.asarray(x.val), np.asarray(y.val)) and x.aval.dtype == y.aval.dtype


def _shape_fits(x: Any, y: Any, axes: dict, differs: set, eqn: Any) -> bool:
    if x.aval.dtype != y.aval.dtype or len(x.aval.shape) != len(y.aval.shape):
        return False
    if x in axes:
        differs.add(x)
        return _with_size(x.aval, axes[x], 1).shape == y.aval.shape
    # a value without examples: only a constant broadcast along the axis may have another shape
    # (what a loop or branch gives without examples was compared inside of it)
    touched = not followed(eqn) and any(isinstance(v, Var) and v in differs for v in eqn.invars)
    if x.aval.shape == y.aval.shape and not touched:
        return True
    differs.add(x)
    return eqn.primitive.name in _CONSTANT_ALONG


def _same_params(a: Any, b: Any, axes: dict, above: tuple) -> bool:
    if a.params.keys() != b.params.keys():
        return False
    if a.primitive.name == "custom_jvp_call":
        return _same_rules(a, b, [axes.get(v) if isinstance(v, Var) else None for v in a.invars], above)
    inside = followed(a)
    held = ("jaxpr", "call_jaxpr", "branches") if inside else ()
    compared = [key for key in a.params if key not in _SIZES and key not in held]
    if any(value_key(a.params[key]) != value_key(b.params[key]) for key in compared):
        return False
    if not inside:
        return True
    where = axes_inside(a, [axes.get(v) if isinstance(v, Var) else None for v in a.invars])
    return all(_same_body(x, y, where, above) for x, y in zip(inside, followed(b), strict=True))


def _same_body(x: Any, y: Any, where: Sequence[int | None], above: tuple) -> bool:
    """Compare two programs inside equations; operands without examples must not know the size of the batch."""
    big, one = build_graph(x), build_graph(y)
    for v, w, axis in zip(big.invars, one.invars, where, strict=True):
        if (v.aval if axis is None else _with_size(v.aval, axis, 1)).shape != w.aval.shape:
            return False
    known = {v: axis for v, axis in zip(big.invars, where, strict=True) if axis is not None}
    follow(big.eqns, known)
    same = _same_constants(opened(x)[1], opened(y)[1]) and _same_constants(big.constants, one.constants)
    return same and same_program(big, one, known, above)


def _same_rules(a: Any, b: Any, axes: Sequence[int | None], above: tuple) -> bool:
    """Compare what two custom derivative rules compute; a rule may call its own function again."""
    called = value_key(a.params["call_jaxpr"])
    if called in above:
        return True
    x, y = rule_program(a), rule_program(b)
    own = [axis for axis in axes if axis is not None]
    if x is None or y is None or len(own) < len(axes):
        return False
    big, one = build_graph(x), build_graph(y)
    try:
        known = batch_axes(big, [*own, *own])
    except NotIndependentError:
        return False
    return _same_constants(x.consts, y.consts) and same_program(big, one, known, (*above, called))
