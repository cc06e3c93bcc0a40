"""A call of a user's function, made flat: leaves in, arrays out, constants apart (see `grads.methods.registry`)."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from grads import arguments
from grads.programs.graph import Graph
from grads.programs.primitives import CALLBACKS, CUSTOM, DIRECTED, PARTLY, names_inside
from grads.programs.rules import blocked, custom_inside, linearity


@dataclass(frozen=True)
class JacobianOptions:
    """What the user asked of a method: see `grads.jacobian.jacobian` for the meaning of each field.

    mapped: so many examples share the call, of an outer `vmap` (a power of two: near sizes share a plan).
    """

    chunk_size: int | None = None
    memory_limit: int | None = None
    batch_axis: int | None = None
    holomorphic: bool = False
    remat: bool = False
    factored: bool = False
    mapped: int = 1


@dataclass(frozen=True, eq=False)
class FlatProblem:
    """A flat differentiation problem; `outputs` are the floating point outputs, `aux` other results follow them.

    `session` holds, while a method is chosen and built, the flat function ("fun") and the values of its constants
    ("constants"), for a method that needs the program at other shapes; it is emptied afterwards.
    """

    graph: Graph
    inputs: tuple[jax.ShapeDtypeStruct, ...]
    outputs: tuple[jax.ShapeDtypeStruct, ...]
    aux: int
    options: JacobianOptions
    session: dict = field(default_factory=dict)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return `make()`, computed once per key while a method is chosen and built."""
        if key not in self.session:
            self.session[key] = make()
        return self.session[key]

    @cached_property
    def n(self) -> int:
        """Total number of input elements (columns of the Jacobian)."""
        return sum([a.size for a in self.inputs])

    @cached_property
    def m(self) -> int:
        """Total number of output elements (rows of the Jacobian)."""
        return sum([a.size for a in self.outputs])

    @cached_property
    def dtype(self) -> np.dtype:
        """The dtype of the Jacobian as one matrix."""
        return jnp.result_type(jnp.float16 if not self.outputs else self.outputs[0], *self.outputs)

    @cached_property
    def output_bytes(self) -> float:
        """Bytes of the dense Jacobian."""
        return float(self.m * self.n * self.dtype.itemsize)

    @cached_property
    def value_bytes(self) -> float:
        """Bytes of all values of the function itself: what a linearisation may keep."""
        return float(sum([o.aval.size for e in self.graph.body for o in e.outvars]) * self.dtype.itemsize)

    @cached_property
    def column_bytes(self) -> float:
        """Bytes that one column (or row) holds at its widest: the widest live set."""
        return float(max((*self.graph.widths, self.n, self.m)) * self.dtype.itemsize)

    @cached_property
    def is_complex(self) -> bool:
        """True when a complex value lies on the way of a derivative."""
        return any(jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in self.graph.active)

    @cached_property
    def primitives(self) -> frozenset[str]:
        """Names of all primitives on the way of a derivative, those inside loops and branches included."""
        return frozenset().union(*[names_inside(e) for e in self.graph.body])

    @cached_property
    def no_derivative(self) -> str | None:
        """Why there is no derivative in either direction: a call of Python lies on its way."""
        for e in self.graph.body:
            found = names_inside(e, CUSTOM) & CALLBACKS
            if found and not self.graph.active.isdisjoint(e.outvars):
                return (
                    f"{sorted(found)[0]} has no derivative: wrap it in jax.custom_jvp or jax.custom_vjp, "
                    "or use 'finite_difference'"
                )
        return None

    def _blocked(self, reverse: bool) -> str | None:
        """Name of a primitive without a derivative in this direction, on the way of the derivative."""
        if self.primitives.isdisjoint(DIRECTED):
            return None
        carrying = (e for e in self.graph.body if not self.graph.active.isdisjoint(e.outvars))
        return next((name for e in carrying if (name := blocked(e, reverse, self.graph.active))), None)

    @cached_property
    def no_forward(self) -> str | None:
        """Why there is no forward derivative (a custom_vjp has none), or None."""
        found = self._blocked(False)
        reason = f"{found} has no forward derivative: use 'rev' or 'rev_chunked'" if found else None
        return self.no_derivative or reason

    @cached_property
    def no_reverse(self) -> str | None:
        """Why there is no reverse derivative (a while loop of unknown length has none, nor a custom_jvp whose rule
        cannot be transposed; a complex output needs two rows per element), or None.
        """
        if self.no_derivative:
            return self.no_derivative
        if found := self._blocked(True):
            if found in CUSTOM:
                return "the rule of a custom_jvp cannot be transposed: use 'fwd', or lax.scan in the rule"
            if found in PARTLY:
                return f"{found} cannot be transposed with respect to these operands: use 'fwd'"
            return "a while loop of unknown length has no reverse derivative: use 'fwd', or lax.scan in the function"
        if self.graph.adds_over_mesh:
            return "a reverse pass would add up over the mesh axis along which only the output varies: use 'fwd'"
        if self.is_complex and not self.options.holomorphic:
            if any(jnp.issubdtype(a.dtype, jnp.complexfloating) for a in self.outputs):
                return "reverse mode needs real outputs (or holomorphic=True): use 'fwd'"
        return None

    @cached_property
    def linearity(self) -> str:
        """The least that is known of the custom rules on the way: "linear", "unknown" or "nonlinear"."""
        if self.primitives.isdisjoint(CUSTOM):
            return "linear"
        carrying = [e for e in self.graph.body if not self.graph.active.isdisjoint(e.outvars)]
        found = {linearity(e) for e in custom_inside(carrying)}
        return next((word for word in ("nonlinear", "unknown") if word in found), "linear")

    @cached_property
    def unit_only(self) -> str | None:
        """Why only the unit vectors themselves may be pushed or pulled through the whole function, or None."""
        if self.linearity != "nonlinear":
            return None
        return "a custom derivative rule is not linear (it clips or bends what it is given): use 'fwd' or 'rev'"

    def bind(self, constants: Sequence[Any]) -> Callable:
        """Return the flat function `f(*leaves) -> tuple(outputs)`."""
        return lambda *leaves: tuple(self.graph.evaluate(constants, leaves)[: len(self.outputs)])

    def raveled(self, constants: Sequence[Any], leaves: Sequence[Any]) -> tuple[Callable, Any, Callable]:
        """Return the function of one vector to one vector, that vector here, and its way back to leaves."""
        fun = self.bind(constants)
        return raveled(lambda xs: fun(*xs), tuple(leaves))


def raveled(fun: Callable, x: Any) -> tuple[Callable, Any, Callable]:
    """Return `fun` of one pytree as a function of one vector to one vector, that vector at x, and its way back to x."""
    flat, unravel = ravel_pytree(x)
    return (lambda f: ravel_pytree(fun(unravel(f)))[0]), flat, unravel


def over(fun: Callable, stack: Any, chunk_size: int | None) -> Any:
    """Map `fun` over the first axis, `chunk_size` entries at a time (None: all at once)."""
    return jax.lax.map(fun, stack, batch_size=chunk_size) if chunk_size else jax.vmap(fun)(stack)


@dataclass(frozen=True)
class Call:
    """One call of a user's function: `flat(*leaves)` returns all arrays; `store` is filled when it is traced."""

    flat: Callable
    leaves: tuple[Any, ...]
    in_tree: Any
    where: tuple[int, ...]
    all_leaves: tuple[Any, ...]
    store: dict

    def out_avals(self) -> tuple[tuple, int]:
        """(avals of the floating point outputs, number of arrays after them), known after tracing."""
        return self.store["outputs"], self.store["aux_count"]


def flatten_call(fun, argnums, args, kwargs, *, has_aux=False, holomorphic=False, allow_int=False) -> Call:
    """Separate the differentiated leaves of a call from the rest; check them as jacfwd does.

    Raises TypeError for leaves that are not arrays or numbers, integer leaves without `allow_int`, complex leaves
    without `holomorphic` (and real ones with it); ValueError for argnums out of range.
    """
    numbers = arguments.numbers_of(argnums, len(args))
    chosen = tuple(args[i] for i in numbers) if isinstance(argnums, (tuple, list)) else args[numbers[0]]
    given, in_tree = jax.tree.flatten(chosen)
    all_leaves = tuple(_as_array(x, holomorphic, allow_int) for x in given)
    where = tuple(i for i, x in enumerate(all_leaves) if jnp.issubdtype(x.dtype, jnp.inexact))
    store: dict = {}

    def flat(*leaves):
        full = list(all_leaves)
        for i, x in zip(where, leaves, strict=True):
            full[i] = x
        value = jax.tree.unflatten(in_tree, full)
        values = value if isinstance(argnums, (tuple, list)) else (value,)
        new = list(args)
        for i, x in zip(numbers, values, strict=True):
            new[i] = x
        return _split_outputs(fun(*new, **kwargs), has_aux, holomorphic, store)

    return Call(flat, tuple(all_leaves[i] for i in where), in_tree, where, all_leaves, store)


def _split_outputs(result, has_aux, holomorphic, store) -> tuple:
    if has_aux:
        if not (isinstance(result, (tuple, list)) and len(result) == 2):
            raise TypeError(f"with has_aux=True the function must return (output, aux), got {type(result).__name__}")
        result, aux = result
    else:
        aux = None
    outs, store["out_tree"] = jax.tree.flatten(result)
    for y in outs:
        if not isinstance(y, (jax.Array, np.ndarray, np.generic, float, int, complex, bool)):
            raise TypeError(f"outputs must be arrays or numbers, got {y!r} of type {type(y).__name__}")
        if holomorphic and not jnp.issubdtype(jnp.result_type(y), jnp.complexfloating):
            raise TypeError(f"holomorphic=True needs complex outputs, got dtype {jnp.result_type(y)}")
    outs = [jnp.asarray(y) for y in outs]
    store["all_outputs"] = tuple(jax.ShapeDtypeStruct(y.shape, y.dtype) for y in outs)
    store["out_where"] = tuple(i for i, y in enumerate(outs) if jnp.issubdtype(y.dtype, jnp.inexact))
    store["outputs"] = tuple(store["all_outputs"][i] for i in store["out_where"])
    aux_leaves, store["aux_tree"] = jax.tree.flatten(aux)
    is_array = [isinstance(a, (jax.Array, np.ndarray)) for a in aux_leaves]
    store["aux_static"] = [None if ok else a for a, ok in zip(aux_leaves, is_array, strict=True)]
    store["aux_is_array"] = is_array
    arrays = [jax.lax.stop_gradient(a) for a, ok in zip(aux_leaves, is_array, strict=True) if ok]
    rest = [y for i, y in enumerate(outs) if i not in store["out_where"]]
    store["aux_count"] = len(rest) + len(arrays)
    return (*(outs[i] for i in store["out_where"]), *rest, *arrays)


def restore(store: dict, values: Sequence[Any], aux: Sequence[Any]) -> tuple[Any, Any]:
    """Put the arrays of a flat call back into the user's structures: (output, aux)."""
    floats, arrays = iter(values), iter(aux)
    count = len(store["all_outputs"])
    outs = [next(floats) if i in store["out_where"] else next(arrays) for i in range(count)]
    leaves = [next(arrays) if ok else a for a, ok in zip(store["aux_static"], store["aux_is_array"], strict=True)]
    return jax.tree.unflatten(store["out_tree"], outs), jax.tree.unflatten(store["aux_tree"], leaves)


def _as_array(x, holomorphic: bool, allow_int: bool):
    if not isinstance(x, (jax.Array, np.ndarray, np.generic, float, int, complex)):
        raise TypeError(
            f"jacobian differentiates with respect to arrays and numbers, got {x!r} "
            f"of type {type(x).__name__}; "
            "pass it by another argument (argnums) or close over it"
        )
    dtype = jnp.result_type(x)
    if holomorphic and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"holomorphic=True needs complex inputs, got dtype {dtype}")
    if not holomorphic and jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(
            f"jacobian needs real inputs, got dtype {dtype}: pass holomorphic=True if the function "
            "is holomorphic, else differentiate a function of the real and imaginary parts"
        )
    if not jnp.issubdtype(dtype, jnp.inexact) and not allow_int:
        raise TypeError(
            f"jacobian needs floating point inputs, got dtype {dtype}: convert it, or pass allow_int=True "
            "for a zero derivative (dtype float0)"
        )
    return jnp.asarray(x)
