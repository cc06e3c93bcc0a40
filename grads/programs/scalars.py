"""A program as a graph of scalars: which element depends directly on which, and where the partial derivative is found.

Elements that only move are the same vertex. An edge carries +1 or -1 where the primitive says so (sums, differences,
copies), else the place of its value: (equation, operand, element) of an array of partial derivatives, which is one jvp
with a tangent of ones for an elementwise primitive, and the other operand for a product.
Source: Griewank & Walther 2008, chapter 9 (the linearised computational graph).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Var

from grads.programs.graph import Graph, apply_equation, width
from grads.programs.local import custom_is_diagonal
from grads.programs.primitives import REMAT, SMOOTH, ZERO_SLOPE
from grads.programs.sparsity import evaluate_integers, moved

Place = tuple[int, int, int]  # equation in the body, operand, element
Edges = dict[int, dict[int, Any]]
LARGEST = 1000  # elements of active values
_SIGNS = {"add": (1, 1), "add_any": (1, 1), "sub": (1, -1), "neg": (-1,)}


@dataclass(frozen=True)
class ScalarGraph:
    """`edges[u][w]`: what is known of the partial derivatives of vertex w by vertex u: a list of signs and places.

    `inputs` and `outputs` number the vertices of the leaves' and of the results' elements (-1: no dependence).
    """

    edges: dict[int, dict[int, list[int | Place]]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class NotScalarError(Exception):
    """The program is too large, or a primitive has no rule; the message says which."""


def scalar_graph(graph: Graph, outputs: int, constants: Sequence[Any]) -> ScalarGraph:
    """Return the graph of the first `outputs` results, without vertices that lead to none of them."""
    size = width(graph.active)
    if size > LARGEST:
        raise NotScalarError(f"{size} scalars are more than the {LARGEST} whose order is searched: use 'chain'")
    build = _Build(graph, constants)
    for number, eqn in enumerate(graph.body):
        if not graph.active.isdisjoint(eqn.outvars):
            build.add(number, eqn)
    results = [build.of(v) for v in graph.outvars[:outputs]]
    ends = [build.fresh(len(r)) for r in results]
    for source, end in zip(results, ends, strict=True):
        for u, w in zip(source, end, strict=True):
            build.join(int(u), int(w), 1)
    inputs = np.concatenate([build.of(v) for v in graph.invars])
    outs = np.concatenate(ends) if ends else np.zeros(0, int)
    return ScalarGraph(_reaching(build.edges, outs), tuple(inputs.tolist()), tuple(outs.tolist()))


def _reaching(edges: dict, ends: np.ndarray) -> dict:
    """The edges that lead to an output; a vertex has a smaller number than all that depend on it."""
    useful = set(ends.tolist())
    for u in sorted(edges, reverse=True):
        if not useful.isdisjoint(edges[u]):
            useful.add(u)
    return {u: kept for u in edges if (kept := {w: e for w, e in edges[u].items() if w in useful})}


class _Build:
    """Numbers the elements of all active values and collects edges, equation by equation."""

    def __init__(self, graph: Graph, constants: Sequence[Any]):
        self.graph, self.count = graph, 0
        self.edges: dict[int, dict[int, list]] = {}
        self.numbers: dict[Any, np.ndarray] = {}
        for v in graph.invars:
            self.numbers[v] = self.fresh(v.aval.size)
        pairs = zip(graph.constvars, constants, strict=False)
        self.known = {v: c for v, c in pairs if c is not None and not isinstance(c, jax.core.Tracer)}
        for eqn in graph.prologue:
            evaluate_integers(graph, eqn, self.known)

    def fresh(self, count: int) -> np.ndarray:
        """New vertices."""
        self.count += count
        return np.arange(self.count - count, self.count)

    def of(self, v: Any) -> np.ndarray:
        """The vertices of a value's elements, raveled."""
        found = self.numbers.get(v) if isinstance(v, Var) else None
        return np.full(v.aval.size, -1) if found is None else found

    def join(self, u: int, w: int, value: Any) -> None:
        """Add a partial derivative of w by u."""
        if u >= 0:
            self.edges.setdefault(u, {}).setdefault(w, []).append(value)

    def add(self, number: int, eqn: Any) -> None:
        """The vertices of an equation's results, and their edges."""
        name = eqn.primitive.name
        if name in ZERO_SLOPE:
            return
        numbers = [self.of(v) if isinstance(v, Var) and v in self.graph.active else None for v in eqn.invars]
        if (sources := moved(self.graph, eqn, numbers, self.known)) is not None:
            table = np.concatenate([*(n for n in numbers if n is not None), [-1]])
            self.numbers.update((v, table[s]) for v, s in zip(eqn.outvars, sources, strict=True))
            return
        (out,) = eqn.outvars if len(eqn.outvars) == 1 else _refuse(name)
        self.numbers[out] = self.fresh(out.aval.size)
        for operand, own in enumerate(numbers):
            if own is not None:
                reads, values = self.local(number, eqn, operand)
                for w, (r, v) in enumerate(zip(reads, values, strict=True)):
                    for element, value in zip(np.atleast_1d(r), v, strict=True):
                        self.join(int(own[element]), int(self.numbers[out][w]), value)

    def local(self, number: int, eqn: Any, operand: int) -> tuple[Any, Any]:
        """For every element of the result: the elements of an operand that it reads, and the partial derivatives."""
        name, x, out = eqn.primitive.name, eqn.invars[operand], eqn.outvars[0].aval
        if name == "reduce_sum":
            axes = eqn.params["axes"]
            order = [*(a for a in range(len(x.aval.shape)) if a not in axes), *axes]
            reads = np.arange(x.aval.size).reshape(x.aval.shape).transpose(order).reshape(out.size, -1)
            return reads, np.ones(reads.shape, int).tolist()
        if name == "dot_general":
            mine, other = _products(eqn, operand)
            return mine, [[(number, operand, int(o)) for o in row] for row in other]
        custom = name == "custom_jvp_call" and custom_is_diagonal(eqn, [x])
        if not (name in SMOOTH or custom):
            _refuse(name)
        own = np.broadcast_to(np.arange(x.aval.size).reshape(x.aval.shape), out.shape).reshape(-1)
        if name in _SIGNS:
            return own, [[_SIGNS[name][operand]]] * out.size
        return own, [[(number, operand, i)] for i in range(out.size)]


def _refuse(name: str) -> Any:
    what = "a checkpoint is not opened" if name in REMAT else f"no rule for the primitive {name!r}"
    raise NotScalarError(f"{what}: use 'chain', 'fwd' or 'rev'")


def _products(eqn: Any, operand: int) -> tuple[np.ndarray, np.ndarray]:
    """For every element of a product: the elements of the one operand that it reads, and their factors in the other."""
    (contract, batch), tables = eqn.params["dimension_numbers"], []
    shared = len(batch[0])
    for side in (0, 1):
        shape = eqn.invars[side].aval.shape
        free = [a for a in range(len(shape)) if a not in contract[side] and a not in batch[side]]
        numbers = np.arange(int(np.prod(shape))).reshape(shape).transpose(*batch[side], *free, *contract[side])
        tables.append(numbers.reshape(*(shape[a] for a in batch[side]), int(np.prod([shape[a] for a in free])), -1))
    left, right = np.expand_dims(tables[0], shared + 1), np.expand_dims(tables[1], shared)
    both = np.broadcast_arrays(left, right)
    flat = [b.reshape(eqn.outvars[0].aval.size, -1) for b in both]
    return flat[operand], flat[1 - operand]


def partials(graph: Graph, constants: Sequence[Any], leaves: Sequence[Any], places: Sequence[tuple[int, int]]) -> tuple:
    """Return (results, partial derivatives of each (equation, operand), raveled)."""
    eqns = [graph.body[number] for number, _ in places]
    reads = list(dict.fromkeys(v for e in eqns for v in e.invars if isinstance(v, Var)))
    inputs = (*graph.constvars, *graph.invars)
    results = graph.function(graph.eqns, inputs, [*graph.outvars, *reads])(*constants, *leaves)
    count = len(graph.outvars)
    env = dict(zip(reads, results[count:], strict=True))
    value = lambda v: env[v] if isinstance(v, Var) else jnp.asarray(v.val, v.aval.dtype)

    def one(eqn: Any, operand: int) -> Any:
        values = [value(v) for v in eqn.invars]
        if eqn.primitive.name == "dot_general":
            return values[1 - operand].reshape(-1)
        fun: Callable = lambda x: _single(apply_equation(eqn, [*values[:operand], x, *values[operand + 1 :]]))
        return jax.jvp(fun, (values[operand],), (jnp.ones_like(values[operand]),))[1].reshape(-1)

    found = {at: one(e, at[1]) for e, at in zip(eqns, places, strict=True)}
    return results[:count], found


def _single(out: Any) -> Any:
    return out[0] if isinstance(out, (list, tuple)) else out
