"""Programs of half precision inputs and wider outputs, with inputs as wide as the outputs.

jacfwd starts from unit vectors, exact in any dtype, so its J has the precision of the operations. A reverse pass ends
in the dtype of the input and rounds J to it. Where a program only moves the elements of its input before it converts
them, the
same program of the wide input has the same values, and its J is not rounded in any direction.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Var

from grads.programs.graph import Graph, apply_equation, is_float, trace
from grads.programs.primitives import RESHAPES

__all__ = ["wide_dtypes", "widened"]

_MOVED = RESHAPES | frozenset("broadcast_in_dim transpose slice rev gather dynamic_slice split unstack".split())


def wide_dtypes(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Any] | None:
    """Return the dtypes the inputs need for their Jacobian not to be rounded to theirs; None where they suffice."""
    widest = max((o.dtype for o in outputs), key=lambda d: jnp.finfo(d).bits, default=None)
    narrow = [jnp.issubdtype(a.dtype, jnp.floating) and a.dtype.itemsize < 4 for a in inputs]
    if widest is None or widest.itemsize < 4 or not jnp.issubdtype(widest, jnp.floating) or not any(narrow):
        return None
    return [jnp.dtype(jnp.float32) if thin else a.dtype for thin, a in zip(narrow, inputs, strict=True)]


def widened(fun: Callable, dtypes: Sequence[Any]) -> Callable:
    """Return `fun(*leaves)` as a function of wide leaves that hold values of the narrow dtypes `dtypes`."""

    def wide(*leaves: Any) -> tuple:
        narrow = [jax.ShapeDtypeStruct(x.shape, d) for x, d in zip(leaves, dtypes, strict=True)]
        graph, constants = trace(fun, narrow)
        return tuple(_replay(graph, constants, leaves))

    return wide


def _replay(graph: Graph, constants: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
    """Evaluate the program; what is moved stays wide until it is converted or computed with."""
    env: dict[Any, Any] = dict(zip(graph.constvars, constants, strict=True))
    wide = dict(zip(graph.invars, leaves, strict=True))

    def read(v: Any) -> Any:
        if not isinstance(v, Var):
            return jnp.asarray(v.val, v.aval.dtype)
        if v not in env:
            aval: Any = v.aval
            env[v] = wide[v].astype(aval.dtype)
        return env[v]

    for e in graph.eqns:
        first: Any = e.invars[0] if e.invars else None
        out: Any = e.outvars[0] if e.outvars else None
        name, held = e.primitive.name, isinstance(first, Var) and first in wide
        if held and name == "convert_element_type" and _at_least(out.aval.dtype, wide[first].dtype):
            env[out] = wide[first].astype(out.aval.dtype)
        elif held and name in _MOVED and not any(is_float(v.aval) for v in e.invars[1:]):
            moved = e.primitive.bind(wide[first], *map(read, e.invars[1:]), **e.params)
            wide.update(zip(e.outvars, moved if e.primitive.multiple_results else [moved], strict=True))
        else:
            env.update(zip(e.outvars, apply_equation(e, [read(v) for v in e.invars]), strict=True))
    return [read(v) for v in graph.outvars]


def _at_least(dtype: Any, least: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) and jnp.promote_types(dtype, least) == dtype
