"""Which entries of a Jacobian can be nonzero, read off the traced program.

Every intermediate value carries, per element, the set of input elements it depends on (a boolean matrix in compressed
rows). Primitives that only move elements are run on element numbers instead of values; elementwise ones unite sets;
reductions and products unite along what they sum over; anything else is taken to depend on all its operands' inputs. So
the pattern is never too small, for any input value; it may be too large (products with constant zeros, branches).
Source of the idea: Griewank & Walther 2008, section 7.4 (propagation of index domains).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Var

from grads.matrices.pattern import Pattern
from grads.programs.graph import Graph, apply_equation, build_graph, is_float, trace, width
from grads.programs.primitives import CALLS, COMPLEX_PARTS, REDUCTIONS, SMOOTH, ZERO_SLOPE, called

__all__ = ["graph_sparsity", "jacobian_sparsity"]

_LARGEST_CONSTANT = 10**7  # elements of an index array worth evaluating


def jacobian_sparsity(fun: Callable, x: Any) -> Pattern:
    """Return the pattern of d fun / dx, leaves of both trees raveled and concatenated in order."""
    leaves, tree = jax.tree.flatten(x)
    flat = lambda *xs: jax.tree.leaves(fun(jax.tree.unflatten(tree, xs)))
    graph, constants = trace(flat, leaves)
    return graph_sparsity(graph, constants)


def graph_sparsity(graph: Graph, constants: Sequence[Any] = ()) -> Pattern:
    """Return the pattern of a traced program; `constants` (where not None, and concrete) tell where gathers and
    scatters read.
    """
    import scipy.sparse as sp

    n = width(graph.invars)
    identity, at, depends = sp.identity(n, bool, "csr"), 0, {}
    for v in graph.invars:
        if is_float(v.aval):
            depends[v] = identity[at : at + v.aval.size]
        at += v.aval.size
    pairs = zip(graph.constvars, constants, strict=False)
    known = {v: c for v, c in pairs if c is not None and not isinstance(c, jax.core.Tracer)}
    walk = _Walk(n)
    walk.follow(graph, depends, known)
    blocks = [walk.of(depends, v) for v in graph.outvars]
    whole = sp.vstack(blocks, "csr") if blocks else sp.csr_matrix((0, n), dtype=bool)
    whole.sort_indices()
    coo = whole.tocoo()
    return Pattern.at(coo.row, coo.col, coo.shape)


def known_integers(constants: Sequence[Any]) -> list[Any]:
    """The constants with a value that is known and whole (an index, a mask), None for the others."""

    def one(c: Any) -> Any:
        if isinstance(c, jax.core.Tracer) or np.size(c) > _LARGEST_CONSTANT:
            return None
        kind = jnp.result_type(c)
        return c if jnp.issubdtype(kind, jnp.integer) or jnp.issubdtype(kind, jnp.bool_) else None

    return [one(c) for c in constants]


class _Walk:
    """Carries dependences through a program of n inputs."""

    def __init__(self, n: int):
        self.n = n

    def of(self, depends: dict, v: Any) -> Any:
        """The dependence of a value: (size, n)."""
        import scipy.sparse as sp

        found = depends.get(v) if isinstance(v, Var) else None
        return sp.csr_matrix((v.aval.size, self.n), dtype=bool) if found is None else found

    def follow(self, graph: Graph, depends: dict, known: dict) -> None:
        """Fill `depends` for every value, and `known` with integer values that depend on no input."""
        for eqn in graph.eqns:
            if not any(isinstance(v, Var) and v in depends for v in eqn.invars):
                evaluate_integers(graph, eqn, known)
                continue
            if eqn.primitive.name in ZERO_SLOPE:
                continue
            outs = self.rule(graph, eqn, depends, known)
            depends.update((v, o) for v, o in zip(eqn.outvars, outs, strict=True) if is_float(v.aval))

    def rule(self, graph: Graph, eqn: Any, depends: dict, known: dict) -> list:
        """Return the dependence of each output of an equation."""
        name = eqn.primitive.name
        if name in CALLS:
            return self.call(eqn, depends, known)
        operands = [depends.get(v) if isinstance(v, Var) else None for v in eqn.invars]
        if name in SMOOTH or name in COMPLEX_PARTS:
            return [self.united(eqn, operands)]
        if name in REDUCTIONS:
            return [_reduced(eqn, operands[0])]
        if name == "dot_general":
            return [self.product(eqn, operands)]
        if (sources := moved(graph, eqn, operands, known)) is not None:
            return [self.gathered(operands, s) for s in sources]
        if name == "scatter-add" and (target := _target(eqn, known)) is not None:
            return [self.scattered(eqn, operands, target)]
        return self.everything(eqn, operands)

    def call(self, eqn: Any, depends: dict, known: dict) -> list:
        """Look inside a call."""
        inner = build_graph(called(eqn))
        given = [(i, v) for i, v in zip(inner.invars, eqn.invars, strict=True) if isinstance(v, Var)]
        local = {i: depends[v] for i, v in given if v in depends}
        facts = {i: known[v] for i, v in given if v in known}
        self.follow(inner, local, facts)
        return [self.of(local, v) for v in inner.outvars]

    def united(self, eqn: Any, operands: list) -> Any:
        """Elementwise: the union over operands, each broadcast."""
        out = eqn.outvars[0].aval.shape
        pairs = zip(operands, eqn.invars, strict=True)
        parts = [_repeated(p, v.aval.shape, out) for p, v in pairs if p is not None]
        return sum(parts[1:], start=parts[0])

    def product(self, eqn: Any, operands: list) -> Any:
        """dot_general: every output element needs its row of the one operand and its column of the other."""
        (contract, batch), out = eqn.params["dimension_numbers"], eqn.outvars[0].aval.shape
        parts, _number, width = [], np.arange(math.prod(out)).reshape(out), len(batch[0])
        other_free = len(eqn.invars[0].aval.shape) - width - len(contract[0])
        for side, p in enumerate(operands):
            if p is None:
                continue
            shape = eqn.invars[side].aval.shape
            free = [a for a in range(len(shape)) if a not in contract[side] and a not in batch[side]]
            order = (*batch[side], *free, *contract[side])
            kept = [shape[a] for a in (*batch[side], *free)]
            reads = np.arange(math.prod(shape)).reshape(shape).transpose(order).reshape(math.prod(kept), -1)
            united = _grouped(p, reads)
            # which row of `united` an output element reads: its batch and own free axes, not the other side's
            skip = range(width, width + other_free) if side else range(width + other_free, len(out))
            wide = [1 if a in skip else s for a, s in enumerate(out)]
            parts.append(united[np.broadcast_to(np.arange(math.prod(kept)).reshape(wide), out).reshape(-1)])
        return sum(parts[1:], start=parts[0])

    def gathered(self, operands: list, sources: np.ndarray) -> Any:
        """Each output element is the element `sources` of the operands laid end to end; below zero: a constant."""
        import scipy.sparse as sp

        present = [p for p in operands if p is not None]
        table = sp.vstack([*present, sp.csr_matrix((1, self.n), dtype=bool)]).tocsr()
        return table[np.where(sources < 0, table.shape[0] - 1, sources)]

    def scattered(self, eqn: Any, operands: list, target: np.ndarray) -> Any:
        """scatter-add: the operand's own dependence and that of every update that lands there."""
        import scipy.sparse as sp

        out = self.of({}, eqn.outvars[0]) if operands[0] is None else operands[0]
        if operands[2] is not None:
            inside = (target >= 0) & (target < out.shape[0])
            entry = (np.ones(int(inside.sum()), bool), (target[inside], np.flatnonzero(inside)))
            out = out + sp.csr_matrix(entry, shape=(out.shape[0], len(target))) @ operands[2]
        return out

    def everything(self, eqn: Any, operands: list) -> list:
        """An unknown primitive: every output may depend on all that its operands depend on."""
        import scipy.sparse as sp

        row = sp.csr_matrix(sum(p.astype(int).sum(0) for p in operands if p is not None) > 0)
        sizes = [v.aval.size for v in eqn.outvars]
        return [sp.csr_matrix(np.ones((size, 1), bool)) @ row for size in sizes]


def _repeated(p: Any, shape: tuple[int, ...], out: tuple[int, ...]) -> Any:
    """Broadcast: scalars and axes of length one stand for all positions."""
    if shape == out:
        return p
    return p[np.broadcast_to(np.arange(math.prod(shape)).reshape(shape), out).reshape(-1)]


def _grouped(p: Any, reads: np.ndarray) -> Any:
    """Unite the rows of p named in each row of `reads`."""
    import scipy.sparse as sp

    groups, each = reads.shape
    index = (np.ones(reads.size, bool), reads.reshape(-1), np.arange(groups + 1) * each)
    return sp.csr_matrix(index, shape=(groups, p.shape[0])) @ p


def _reduced(eqn: Any, p: Any) -> Any:
    """Sums, maxima and running sums along axes: the union along them."""
    shape = eqn.invars[0].aval.shape
    axes = eqn.params["axes"] if "axes" in eqn.params else (eqn.params["axis"],)
    keep = [a for a in range(len(shape)) if a not in axes]
    kept = [shape[a] for a in keep]
    numbers = np.arange(math.prod(shape)).reshape(shape)
    united = _grouped(p, numbers.transpose(*keep, *axes).reshape(math.prod(kept), -1))
    if "axes" in eqn.params:
        return united
    wide = [1 if a in axes else s for a, s in enumerate(shape)]
    return united[np.broadcast_to(np.arange(math.prod(kept)).reshape(wide), shape).reshape(-1)]


def evaluate_integers(graph: Graph, eqn: Any, known: dict) -> None:
    """Compute integers that depend on no input (indices), as far as their own operands are known."""
    small = all(not is_float(v.aval) and v.aval.size <= _LARGEST_CONSTANT for v in eqn.outvars)
    if small and not eqn.effects and all(not isinstance(v, Var) or v in known for v in eqn.invars):
        with jax.ensure_compile_time_eval():
            known.update(zip(eqn.outvars, graph.apply(eqn, known), strict=True))


def moved(graph: Graph, eqn: Any, operands: list, known: dict) -> list[np.ndarray] | None:
    """Run a primitive that only moves elements on their numbers, 0.. over the operands that are not None; return those
    of each output's elements (below zero: a constant); None when it is not one, or reads unknown places.
    """
    numbers, at = [], 0
    for v, p in zip(eqn.invars, operands, strict=True):
        size = 0 if p is None else p.shape[0]
        shape = v.aval.shape
        numbers.append(np.full(shape, -1) if p is None else np.arange(at, at + size).reshape(shape))
        at += size
    if (move := _NUMPY_MOVES.get(eqn.primitive.name)) is not None:
        return [np.asarray(out).reshape(-1) for out in move(eqn, numbers)]
    if eqn.primitive.name not in ("gather", "dynamic_slice") or operands[0] is None:
        return None
    places = eqn.invars[1:]
    if any(isinstance(v, Var) and v not in known for v in places):
        return None
    with jax.ensure_compile_time_eval():
        (out,) = graph.apply(eqn, {**known, eqn.invars[0]: jnp.asarray(numbers[0], jnp.int32)})
    return [np.asarray(out).reshape(-1)]


def _target(eqn: Any, known: dict) -> np.ndarray | None:
    """Return where each update of a scatter-add lands, from its transpose, a gather of numbers."""
    operand, index, updates = eqn.invars
    unknown = isinstance(index, Var) and index not in known
    if unknown or not all(isinstance(v, Var) for v in (operand, updates)):
        return None
    aval: Any = operand.aval
    kind = aval.dtype
    if aval.size >= 1 / jnp.finfo(kind).eps:
        return None  # numbers beyond the mantissa
    zeros = jnp.zeros(aval.shape, kind)
    with jax.ensure_compile_time_eval():
        blank = jnp.zeros(updates.aval.shape, kind)
        at = known[index] if isinstance(index, Var) else jnp.asarray(index.val)
        # by position: operand and updates may be one variable, as in x.at[i].add(x)
        _, pull = jax.vjp(lambda u: apply_equation(eqn, [zeros, at, u])[0], blank)
        numbers = jnp.arange(1, 1 + zeros.size, dtype=kind).reshape(zeros.shape)
        return np.asarray(pull(numbers)[0]).astype(np.int64).reshape(-1) - 1


def _pad(eqn: Any, numbers: list) -> list:
    x, fill = numbers
    for axis, (low, high, between) in enumerate(eqn.params["padding_config"]):
        x = np.moveaxis(x, axis, 0)
        wide = np.full((max(0, (x.shape[0] - 1) * (between + 1) + 1), *x.shape[1:]), fill)
        wide[:: between + 1] = x
        wide = wide[max(0, -low) : len(wide) - max(0, -high)]
        pads = [(max(0, low), max(0, high))] + [(0, 0)] * (x.ndim - 1)
        x = np.moveaxis(np.pad(wide, pads, constant_values=int(fill)), 0, axis)
    return [x]


def _slice(eqn: Any, numbers: list) -> list:
    p = eqn.params
    steps = p["strides"] or [1] * len(p["start_indices"])
    ranges = zip(p["start_indices"], p["limit_indices"], steps, strict=True)
    return [numbers[0][tuple(slice(*r) for r in ranges)]]


def _broadcast(eqn: Any, numbers: list) -> list:
    shape, where = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    wide = [1] * len(shape)
    for axis, size in zip(where, numbers[0].shape, strict=True):
        wide[axis] = size
    return [np.broadcast_to(numbers[0].reshape(wide), shape)]


_NUMPY_MOVES: dict[str, Callable] = {
    "reshape": lambda e, x: [x[0]],
    "squeeze": lambda e, x: [x[0]],
    "expand_dims": lambda e, x: [x[0]],
    "optimization_barrier": lambda e, x: x,
    "transpose": lambda e, x: [x[0].transpose(e.params["permutation"])],
    "rev": lambda e, x: [np.flip(x[0], e.params["dimensions"])],
    "concatenate": lambda e, x: [np.concatenate(x, e.params["dimension"])],
    "unstack": lambda e, x: list(np.moveaxis(x[0], e.params["axis"], 0)),
    "stack": lambda e, x: [np.stack(x, e.params["axis"])],
    "split": lambda e, x: np.split(x[0], np.cumsum(e.params["sizes"])[:-1], e.params["axis"]),
    "slice": _slice,
    "pad": _pad,
    "broadcast_in_dim": _broadcast,
}
