"""What the local Jacobian of a piece of a program looks like, where that can be proved from the program.

    identity   the output is the input in another shape
    diagonal   every output element depends on the input element of the same flat position (activations,
               biases)
    weight     a vector times a matrix that does not depend on the input: the Jacobian is that matrix
    select     every output element is one input element (gather, slice, sort, top-k): rows of the identity
    spread     every input element goes to one output element at most (scatter, padding): the transpose of that
    general    anything else: differentiated by jvp or vjp

So an activation costs one product with a vector of ones, and a dense layer costs nothing, instead of a product with the
identity matrix.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Var

from grads.programs.graph import active_inputs, apply_equation, build_graph, is_float
from grads.programs.primitives import ELEMENTWISE, RESHAPES, SELECTING, SPREADING

LINEARISED = ("diagonal", "select", "spread")  # known by one product
_KEEP = 256  # custom rules remembered
UNTRACEABLE_RULE = (TypeError, ValueError, NotImplementedError, jax.errors.JAXTypeError)


@dataclass(frozen=True)
class Segment:
    """The equations between two cuts; `ins` and `outs` are the live active variables there."""

    eqns: tuple[Any, ...]
    ins: tuple[Any, ...]
    outs: tuple[Any, ...]
    kind: str

    @property
    def structured(self) -> bool:
        """True when the local Jacobian needs no basis vectors."""
        return self.kind != "general"


def classify(eqns: Sequence[Any], ins: Sequence[Any], outs: Sequence[Any], active: frozenset) -> Segment:
    """Prove the structure of a segment, or call it general."""
    kind = "general"
    if len(ins) == len(outs) == 1:
        carrying = [e for e in eqns if any(o in active for o in e.outvars)]
        if outs[0] is ins[0] or all(_keeps_order(e) for e in carrying):
            kind = "identity"
        elif is_diagonal(eqns, ins[0], outs[0], active):
            kind = "diagonal"
        elif len(carrying) == 1 and is_weight(carrying[0], ins[0], active):
            kind = "weight"
        elif len(carrying) == 1:
            kind = _selection(carrying[0], ins[0], active) or kind
    return Segment(tuple(eqns), tuple(ins), tuple(outs), kind)


_WHOLE = {4: 2**24, 8: 2**53}  # numbers up to here are whole in a float of so many bytes


def _selection(eqn: Any, x: Any, active: frozenset) -> str | None:
    """ "select" or "spread" where one operand's elements only move, by places that the program computes."""
    name, out = eqn.primitive.name, eqn.outvars[0]
    if [v for v in eqn.invars if isinstance(v, Var) and v in active] != [x] or out.aval.dtype != x.aval.dtype:
        return None
    if max(x.aval.size, out.aval.size) >= _WHOLE.get(x.aval.dtype.itemsize, 0):
        return None
    at = eqn.invars.index(x)
    if name in SELECTING and at == 0:
        return "select"
    return "spread" if SPREADING.get(name, at) in (at, None) and name in SPREADING else None


def selected(segment: Segment, push: Any, x: jax.Array) -> tuple[jax.Array, int]:
    """Where the elements of a "select" come from, or those of a "spread" go to, counted flat; and past the last place.

    The derivative itself says it, of the numbers 1, 2, 3, ...: what is left out, overwritten or filled is 0.
    """
    move, start = push, x.aval
    if segment.kind == "spread":
        move, start = lambda u: jax.linear_transpose(push, x)([u]), segment.outs[0].aval
    (found,) = move(jnp.arange(1, start.size + 1, dtype=start.dtype).reshape(start.shape))
    found = jax.lax.stop_gradient(found).reshape(-1).astype(jnp.int32)
    return jnp.where(found > 0, found - 1, start.size), start.size


def _keeps_order(eqn: Any) -> bool:
    """True when the flat order of the elements, their number and their dtype stay the same."""
    name, x, y = eqn.primitive.name, eqn.invars[0], eqn.outvars[0]
    if x.aval.dtype != y.aval.dtype or x.aval.size != y.aval.size:
        return False
    if name == "reshape":
        return eqn.params.get("dimensions") is None
    if name == "broadcast_in_dim":
        kept = eqn.params["broadcast_dimensions"]
        return list(kept) == sorted(kept)
    return name in RESHAPES or (name == "split" and len(eqn.outvars) == 1)  # one piece is the whole


def is_diagonal(eqns: Sequence[Any], start: Any, end: Any, active: Any) -> bool:
    """True when every active value has the size of `start` and depends on it position by position."""
    aligned = {start}
    for e in eqns:
        operands = [v for v in e.invars if isinstance(v, Var) and v in active]
        if not operands or active.isdisjoint(e.outvars):
            continue
        if not aligned.issuperset(operands) or any(o.aval.size != start.aval.size for o in e.outvars):
            return False
        name = e.primitive.name
        local = name in ELEMENTWISE or (len(e.outvars) == len(operands) == 1 and _is_reshape(e, operands[0]))
        if not local and not (name == "custom_jvp_call" and custom_is_diagonal(e, operands)):
            return False
        aligned.update(e.outvars)
    return end in aligned


def _is_reshape(eqn: Any, operand: Any) -> bool:
    return eqn.invars[0] is operand and _keeps_order(eqn)


_KNOWN: OrderedDict[Any, tuple[Any, bool]] = OrderedDict()


def custom_is_diagonal(eqn: Any, operands: Sequence[Any]) -> bool:
    """A custom rule decides the derivative, so look at the program of the rule, not at the function.

    A network uses one activation many times, so what was found is kept by the rule's own objects and shapes.
    """
    if len(operands) != 1 or len(eqn.outvars) != 1 or eqn.invars.count(operands[0]) != 1:
        return False
    where = eqn.invars.index(operands[0])
    avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
    kept = tuple(eqn.params.values())  # kept alive with the answer, so that no other object has their ids
    key = (where, tuple((a.shape, a.dtype) for a in avals), *map(id, kept))
    if key not in _KNOWN:
        _KNOWN[key] = (kept, _rule_is_diagonal(eqn, where, avals))
        while len(_KNOWN) > _KEEP:
            _KNOWN.popitem(last=False)
    return _KNOWN[key][1]


def _rule_is_diagonal(eqn: Any, where: int, avals: Sequence[Any]) -> bool:

    def rule(tangent, *values):
        def fun(x):
            out = apply_equation(eqn, [*values[:where], x, *values[where + 1 :]])
            return out[0] if isinstance(out, (list, tuple)) else out

        return jax.jvp(fun, (values[where],), (tangent,))[1]

    try:
        graph = build_graph(jax.make_jaxpr(rule)(avals[where], *avals))
    except UNTRACEABLE_RULE:  # what cannot be traced cannot be seen through
        return False
    tangent, out = graph.invars[0], graph.outvars[0]
    if not isinstance(out, Var):
        return True  # a constant zero
    active = {tangent}
    for e in graph.eqns:
        if active_inputs(e, active):
            active.update(o for o in e.outvars if is_float(o.aval))
    return out not in active or is_diagonal(graph.eqns, tangent, out, active)


def is_weight(eqn: Any, x: Any, active: frozenset) -> bool:
    """True for a matrix product of the vector `x` (all of it contracted) with an operand that is not active."""
    if eqn.primitive.name != "dot_general" or eqn.invars.count(x) != 1:
        return False
    mine = eqn.invars.index(x)
    other = eqn.invars[1 - mine]
    contract, (lhs_batch, _) = eqn.params["dimension_numbers"]
    if lhs_batch or (isinstance(other, Var) and other in active):
        return False
    return math.prod(x.aval.shape[axis] for axis in contract[mine]) == x.aval.size


def weight_matrix(eqn: Any, x: Any, other: jax.Array) -> tuple[jax.Array, bool]:
    """Return (array, transposed): the Jacobian of the product with respect to `x`, or its transpose if flagged."""
    mine = eqn.invars.index(x)
    contract, _ = eqn.params["dimension_numbers"]
    order = sorted(range(len(contract[mine])), key=lambda i: contract[mine][i])
    inner = [contract[1 - mine][i] for i in order]
    free = [axis for axis in range(other.ndim) if axis not in inner]
    other = other.astype(eqn.outvars[0].aval.dtype)
    n, m = x.aval.size, eqn.outvars[0].aval.size
    if free + inner == list(range(other.ndim)):
        return other.reshape(m, n), False
    return jnp.transpose(other, inner + free).reshape(n, m), True
