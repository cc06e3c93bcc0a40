"""Counting operations over a jaxpr, and what they cost on this machine.

Operations are counted by our own rules, never by XLA's `cost_analysis`, which counts the body of a loop once. The
derivative of an equation with p tangents (or p cotangents) costs p times the linear part of the equation: a matrix
product 2 * out * contracted, a convolution 2 * out * kernel, an elementwise operation one per element, a scan its
length times its body.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Var

from grads.calls.problem import FlatProblem
from grads.costs.machine import Number, Work
from grads.programs.graph import active_inputs, is_float
from grads.programs.primitives import BILINEAR, ELEMENTWISE, FREE, MOVES, REDUCTIONS, REMAT, called, opened

UNKNOWN_TRIPS = 16  # a while loop does not say how often it runs


_ALONE = ELEMENTWISE | MOVES | REDUCTIONS | BILINEAR  # they hold no programs
_MOVED = MOVES | FREE | {"select_n"}
_REDUCED = ("reduce_", "cum", "argm", "sort", "top_k")


def derivative_work(problem: FlatProblem, reverse: bool) -> list[Work]:
    """Derivative work of the whole function."""
    return problem.once(("work", reverse), lambda: work_of(problem.graph.body, problem.graph.active, reverse))


def work_of(eqns: Iterable[Any], active: frozenset, reverse: bool) -> list[Work]:
    """Return the derivative work of the equations that carry a derivative."""
    carrying = [e for e in eqns if not active.isdisjoint(e.outvars)]
    return [w for e in carrying for w in equation_work(e, active, reverse)]


def equation_work(eqn: Any, active: Iterable[Any], reverse: bool) -> list[Work]:
    """Return the work of the derivative of one equation with respect to its active operands."""
    name = eqn.primitive.name
    on = [isinstance(v, Var) and v in active for v in eqn.invars]
    if not any(on) or not any([jnp.issubdtype(o.aval.dtype, jnp.inexact) for o in eqn.outvars]):
        return []
    if name not in _ALONE and (inner := _inner_work(eqn, on, reverse)) is not None:
        return inner
    out = sum([o.aval.size for o in eqn.outvars])
    itemsize = max([o.aval.dtype.itemsize for o in eqn.outvars])
    if name == "dot_general":
        return [_dot_work(eqn, i, itemsize) for i in (0, 1) if on[i]]
    if name == "conv_general_dilated":
        return [_conv_work(eqn, i, reverse, itemsize) for i in (0, 1) if on[i]]
    read = sum([v.aval.size for v, a in zip(eqn.invars, on, strict=True) if a])
    if name in FREE and (name != "broadcast_in_dim" or out == read):
        return []
    operations = 0 if name in _MOVED else max(out, read) if name.startswith(_REDUCED) else out * sum(on)
    # XLA fuses neighbouring elementwise operations: about one in three reads and writes memory
    return [Work("elementwise", operations, (out + read) * itemsize / 3, 0, math.inf, math.inf, itemsize)]


def _dot_work(eqn: Any, operand: int, itemsize: int) -> Work:
    (lhs_c, _), (lhs_b, _) = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    contract = math.prod(shape[i] for i in lhs_c)
    batch = math.prod(shape[i] for i in lhs_b)
    mine, other = eqn.invars[operand], eqn.invars[1 - operand]
    out = eqn.outvars[0].aval.size
    free = mine.aval.size / max(contract * batch, 1)
    width = min(contract, other.aval.size / max(contract * batch, 1))
    moved = (mine.aval.size + out) * itemsize
    return Work("dot", 2.0 * out * contract, moved, other.aval.size * itemsize, free, width, itemsize)


def _conv_work(eqn: Any, operand: int, reverse: bool, itemsize: int) -> Work:
    spec = eqn.params["dimension_numbers"]
    kernel = eqn.invars[1].aval.shape
    taps = math.prod(kernel[i] for i in spec.rhs_spec[1:])
    dilation = math.prod(eqn.params["lhs_dilation"])
    strided = math.prod(eqn.params["window_strides"]) > 1
    out = eqn.outvars[0].aval.size
    slow = (dilation > 1) != (reverse and (strided or dilation > 1)) or operand == 1
    channels = min(kernel[spec.rhs_spec[0]], kernel[spec.rhs_spec[1]])
    moved = (eqn.invars[operand].aval.size + out) * itemsize
    kind, read = "conv_transposed" if slow else "conv", eqn.invars[1].aval.size * itemsize
    return Work(kind, 2.0 * out * taps / dilation, moved, read, math.inf, channels, itemsize)


def _inner_work(eqn: Any, on: Sequence[bool], reverse: bool) -> list[Work] | None:
    """Work of an equation that runs other programs: loops, branches, custom derivatives; None for the others."""
    name, params = eqn.primitive.name, eqn.params
    if name == "while":
        body, skip = params["body_jaxpr"], params["cond_nconsts"]
        return _scaled(_program_work(body, on[skip:], reverse), UNKNOWN_TRIPS)
    if name == "scan":
        return _scaled(_program_work(params["jaxpr"], on, reverse), params["length"])
    if name == "cond":
        options = [_program_work(b, on[1:], reverse) for b in params["branches"]]
        return max(options, key=lambda works: sum(w.operations for w in works))
    if (inner := called(eqn)) is None:
        return None
    works = _program_work(inner, on, reverse)
    return _scaled(works, 2) if reverse and name in REMAT else works


def _program_work(program: Any, on: Sequence[bool], reverse: bool) -> list[Work]:
    jaxpr, _ = opened(program)
    active = {v for v, a in zip(jaxpr.invars, on, strict=False) if a}
    works = []
    for e in jaxpr.eqns:
        works += equation_work(e, active, reverse)
        if active_inputs(e, active):
            active.update(o for o in e.outvars if is_float(o.aval))
    return works


def _scaled(works: list[Work], times: Number) -> list[Work]:
    return [replace(w, repeat=w.repeat * times) for w in works]
