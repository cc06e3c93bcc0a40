"""Proof that a function maps independent examples along one axis.

The axis that numbers the examples is followed through the program, one rule per primitive: example i of every value may
depend on example i of the inputs only. What has no rule is not proved, and then the function is not treated as batched.
(Element-wise sparsity detection finds the same with sets of indices per element; an axis costs nothing.)
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jax.extend.core import Var

from grads.programs import places
from grads.programs.graph import Graph
from grads.programs.local import custom_is_diagonal
from grads.programs.primitives import (
    COMPARISONS,
    COMPLEX_PARTS,
    ELEMENTWISE,
    INLINED,
    REMAT,
    STOPPED,
    called,
    opened,
    programs,
    scan_counts,
)
from grads.programs.rules import rule_program

_BY_ELEMENT = ELEMENTWISE | COMPARISONS | STOPPED | COMPLEX_PARTS


class NotIndependentError(Exception):
    """The proof failed; the message names the primitive."""


def batch_axes(graph: Graph, axes: Sequence[int]) -> dict[Any, int]:
    """Return the axis of the examples for every variable that depends on the inputs.

    Raises NotIndependentError when the program mixes examples or uses a primitive without a rule.
    """
    known = dict(zip(graph.invars, axes, strict=True))
    follow(graph.eqns, known)
    for v in graph.outvars:
        if not isinstance(v, Var) or v not in known:
            raise NotIndependentError("an output does not depend on the input")
    return known


def follow(eqns: Sequence[Any], known: dict[Any, int]) -> None:
    """Extend `known` (variable -> axis) over equations, in place."""
    for e in eqns:
        axes = [known.get(v) if isinstance(v, Var) else None for v in e.invars]
        if all(a is None for a in axes):
            continue
        name = e.primitive.name
        rule = _elementwise if name in _BY_ELEMENT else _RULES.get(name)
        if rule is None:
            raise NotIndependentError(f"no rule for the primitive {name!r}")
        out = rule(e, axes)
        out = out if isinstance(out, list) else [out] * len(e.outvars)
        for v, a in zip(e.outvars, out, strict=True):
            if a is not None:
                known[v] = int(a)  # JAX writes some axes as NumPy integers


def _fail(eqn: Any) -> Any:
    raise NotIndependentError(f"{eqn.primitive.name!r} mixes examples")


def _common(eqn: Any, axes: Sequence[int | None]) -> int:
    """The one axis of all operands that have one."""
    found = {a for a in axes if a is not None}
    return found.pop() if len(found) == 1 else _fail(eqn)


def _elementwise(eqn, axes):
    rank = eqn.outvars[0].aval.ndim
    if any(a is not None and v.aval.ndim != rank for v, a in zip(eqn.invars, axes, strict=True)):
        return _fail(eqn)  # a predicate or bound of one example applied to all
    return _common(eqn, axes)


_OPEN: list[Any] = []  # the equation whose rule is followed: the rule uses values, and is not differentiated itself


def _custom(eqn, axes):
    same = eqn.outvars[0].aval.shape == eqn.invars[0].aval.shape
    if axes[0] is not None and all(a is None for a in axes[1:]) and custom_is_diagonal(eqn, [eqn.invars[0]]) and same:
        return axes[0]
    program = None if any(a is None for a in axes) else rule_program(eqn)
    if program is None:
        return _fail(eqn)
    values = _inside(called(eqn), axes)
    if not _OPEN:
        _OPEN.append(eqn)
        try:
            found = _inside(program, [*axes, *axes])
        finally:
            _OPEN.pop()
        if any(a not in (None, b) for a, b in zip(found, [*values, *values], strict=True)):
            return _fail(eqn)
    return values


def _checked(rule: Callable) -> Callable:
    """A rule of `places`, where mixing is an error."""
    return lambda eqn, axes: _fail(eqn) if (axis := rule(eqn, axes)) is None else axis


def _broadcast(eqn, axes):
    axis = eqn.params["broadcast_dimensions"][axes[0]]
    same = eqn.outvars[0].aval.shape[axis] == eqn.invars[0].aval.shape[axes[0]]
    return axis if same else _fail(eqn)


def _reshape(eqn, axes):
    old, new, axis = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape, axes[0]
    before = math.prod(old[:axis])
    for a in range(len(new)):
        if math.prod(new[:a]) == before and new[a] == old[axis] and eqn.params.get("dimensions") is None:
            return a
    return _fail(eqn)


def _drop(key: str) -> Callable:
    def rule(eqn, axes):
        axis = _common(eqn, axes)
        removed = eqn.params[key]
        return _fail(eqn) if axis in removed else axis - sum(r < axis for r in removed)

    return rule


def _keep_unless(key: str) -> Callable:
    """The primitive works along one dimension (or some): fine along any other."""

    def rule(eqn, axes):
        axis, worked = _common(eqn, axes), eqn.params[key]
        return _fail(eqn) if axis in (worked if isinstance(worked, (tuple, list)) else (worked,)) else axis

    return rule


def _stack(eqn, axes):
    axis = _common(eqn, axes)
    return axis + (axis >= eqn.params["axis"])


def _unstack(eqn, axes):
    axis, along = axes[0], eqn.params["axis"]
    return _fail(eqn) if axis == along else axis - (axis > along)


def _dot(eqn, axes):
    contract, batch = eqn.params["dimension_numbers"]
    places = []
    for side, axis in enumerate(axes):
        if axis is None:
            continue
        if axis in contract[side]:
            return _fail(eqn)
        if axis in batch[side]:
            places.append(tuple(batch[side]).index(axis))
            continue
        used = (*contract[side], *batch[side])
        free = [d for d in range(eqn.invars[side].aval.ndim) if d not in used]
        offset = len(batch[0])
        if side == 1:
            offset += eqn.invars[0].aval.ndim - len(contract[0]) - len(batch[0])
        places.append(offset + free.index(axis))
    return places[0] if len(set(places)) == 1 else _fail(eqn)


def _conv(eqn, axes):
    spec = eqn.params["dimension_numbers"]
    alone = axes[1] is None and eqn.params["batch_group_count"] == 1
    return spec.out_spec[0] if alone and axes[0] == spec.lhs_spec[0] else _fail(eqn)


def _slice(eqn, axes):
    axis, strides = axes[0], eqn.params["strides"]
    whole = eqn.outvars[0].aval.shape[axis] == eqn.invars[0].aval.shape[axis]
    return axis if whole and (strides is None or strides[axis] == 1) else _fail(eqn)


def _dynamic(eqn, axes):
    """dynamic_slice and dynamic_update_slice: whole along the axis, positions the same for all examples."""
    arrays = 1 if eqn.primitive.name == "dynamic_slice" else 2
    axis = _common(eqn, axes[:arrays])
    sizes = {v.aval.shape[axis] for v in (*eqn.invars[:arrays], eqn.outvars[0])}
    return axis if len(sizes) == 1 and all(a is None for a in axes[arrays:]) else _fail(eqn)


def _linear_solve(eqn, axes):
    """The product and the solution must both keep the examples apart, with the same axis in and out."""
    lengths, programs_ = eqn.params["const_lengths"], eqn.params["jaxprs"]
    ends = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    held = [list(axes[a:b]) for a, b in itertools.pairwise(ends)]
    right = list(axes[ends[-1] :])
    out = _inside(programs_.solve, [*held[2], *right])
    again = _inside(programs_.matvec, [*held[0], *out])
    merged = [a if b is None else b for a, b in zip(again, right, strict=True)]
    return out if again == merged else _fail(eqn)


def _while(eqn, axes):
    """One number of turns for all examples, or for each its own (a condition per example, along axis 0)."""
    p = eqn.params
    skip = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    carry = list(axes[skip[1] :])
    for _ in range(len(carry) + 1):
        out = _inside(p["body_jaxpr"], [*axes[skip[0] : skip[1]], *carry])
        if any(a != b for a, b in zip(carry, out, strict=True) if a is not None and b is not None):
            return _fail(eqn)
        new = [b if a is None else a for a, b in zip(carry, out, strict=True)]
        if new == carry:
            (turns,) = _inside(p["cond_jaxpr"], [*axes[: skip[0]], *carry])
            return carry if turns is None or (turns == 0 and set(carry) == {0}) else _fail(eqn)
        carry = new
    return _fail(eqn)


def _pad(eqn, axes):
    plain = axes[1] is None and tuple(eqn.params["padding_config"][axes[0]]) == (0, 0, 0)
    return axes[0] if plain else _fail(eqn)


def _call(eqn, axes):
    return _inside(called(eqn), axes)


def _inside(program: Any, axes: Sequence[int | None]) -> list[int | None]:
    jaxpr, _ = opened(program)
    known = {v: a for v, a in zip(jaxpr.invars, axes, strict=True) if a is not None}
    follow(jaxpr.eqns, known)
    return [known.get(v) if isinstance(v, Var) else None for v in jaxpr.outvars]


def _scan(eqn, axes):
    return _scan_axes(eqn, axes)[1]


def _scan_axes(eqn, axes):
    """Return the axes of the operands of a scan's body, and of the scan's results: a carry gains one from its body."""
    p = eqn.params
    consts, carries = scan_counts(p)
    if any(a == 0 for a in axes[consts + carries :]):
        return _fail(eqn)  # scanning over the examples
    xs = [None if a is None else a - 1 for a in axes[consts + carries :]]
    carry = list(axes[consts : consts + carries])
    for _ in range(carries + 1):
        inside = [*axes[:consts], *carry, *xs]
        out = _inside(p["jaxpr"], inside)
        new = [b if a is None else a for a, b in zip(carry, out[:carries], strict=True)]
        if any(a != b for a, b in zip(new, out[:carries], strict=True) if a is not None and b is not None):
            return _fail(eqn)
        if new == carry:
            return inside, [*carry, *(None if a is None else a + 1 for a in out[carries:])]
        carry = new
    return _fail(eqn)


def followed(eqn: Any) -> list[Any]:
    """Return the programs an equation runs that have a rule here: a loop's body, branches, what a call calls."""
    return programs(eqn) if _RULES.get(eqn.primitive.name) in (_scan, _call, _cond) else []


def axes_inside(eqn: Any, axes: Sequence[int | None]) -> list[int | None]:
    """Return the axis of the examples in each operand of an equation's programs."""
    if eqn.primitive.name == "scan":
        return _scan_axes(eqn, axes)[0]
    return list(axes[1:] if eqn.primitive.name == "cond" else axes)


def _cond(eqn, axes):
    if axes[0] is not None:
        return _fail(eqn)
    options = [_inside(b, axes[1:]) for b in eqn.params["branches"]]
    merged = [{a for a in column if a is not None} for column in zip(*options, strict=True)]
    return [c.pop() if len(c) == 1 else None if not c else _fail(eqn) for c in merged]


_RULES: dict[str, Callable] = {
    "custom_jvp_call": _custom,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _drop("dimensions"),
    "transpose": lambda e, axes: tuple(e.params["permutation"]).index(axes[0]),
    "dot_general": _dot,
    "conv_general_dilated": _conv,
    "concatenate": _keep_unless("dimension"),
    "split": lambda e, axes: axes[0] if len(e.outvars) == 1 else _keep_unless("axis")(e, axes),
    "stack": _stack,
    "unstack": _unstack,
    "rev": _keep_unless("dimensions"),
    "sort": _keep_unless("dimension"),
    "slice": _slice,
    "dynamic_slice": _dynamic,
    "dynamic_update_slice": _dynamic,
    "gather": _checked(places.gather),
    **dict.fromkeys(("scatter", "scatter-add"), _checked(places.scatter)),
    "fft": _checked(places.fourier),
    **dict.fromkeys("cholesky eigh lu qr svd geqrf triangular_solve".split(), _checked(places.matrices)),
    "lu_pivots_to_permutation": _checked(partial(places.matrices, last=1)),
    "custom_linear_solve": _linear_solve,
    "while": _while,
    "top_k": _keep_unless("axis"),
    "pad": _pad,
    "scan": _scan,
    "cond": _cond,
    **{f"cum{k}": _keep_unless("axis") for k in ("sum", "prod", "max", "min", "logsumexp")},
    **{f"reduce_{k}": _drop("axes") for k in ("sum", "max", "min", "prod", "and", "or")},
    **{k: _drop("axes") for k in ("argmax", "argmin")},
    **{k: _checked(places.window) for k in ("reduce_window_max", "reduce_window_min", "reduce_window_sum")},
    **dict.fromkeys(INLINED | REMAT, _call),
}
