"""The method `elimination`: vertex elimination of the graph of scalars, for small programs without a waist.

The Jacobian is what is left of the graph when all inner vertices are gone: a vertex k goes by adding, for every pair of
a predecessor i and a successor j, the product c_jk c_ki to the edge from i to j. Each order of vertices gives the same
numbers with another count of multiplications; forward and reverse mode are two of them. Finding the best is NP-hard:
here the vertex with the smallest product of predecessors and successors goes first (Markowitz); the cheapest of this
order, forward and reverse is then improved by moving single vertices: never more multiplications than the better of
forward and reverse. A product with +1 or -1 is no multiplication; the partial derivatives themselves are not counted.
Sources: Griewank & Reese 1991; Griewank & Walther 2008, chapters 9 and 10; Naumann 2008.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, no_type_check

import jax.numpy as jnp

from grads.calls.forms import blocks_of
from grads.calls.problem import FlatProblem
from grads.costs.cost import Cost
from grads.costs.machine import Number, Work, current
from grads.costs.work import derivative_work
from grads.methods.levels import ProductTable
from grads.methods.registry import register_method
from grads.programs.scalars import NotScalarError, Place, ScalarGraph, partials, scalar_graph
from grads.programs.sparsity import known_integers

_VALUE = math.nan  # stands for a number that is known when the program runs
MOVES = 400  # tried on the best order, where the graph is small: under half a second
_SMALL = 150
_PRODUCTS = 100_000  # counted in all moves at most: orders of a dense network have ten thousand each
MOST = 20_000  # multiplications in an order: beyond it search and emission are no longer short beside compiling
_ONE_STACK = 24  # entries up to which XLA makes one stack of all faster over a batch than a stack of rows
# Multiplications and edges up to which the numbers are operations of their own: these run faster over a batch than
# levels do, but XLA's time to compile them grows far faster than their number.
SINGLE = 400
SINGLES = 20  # operations on single numbers that cost as much as one on an array


@dataclass(frozen=True)
class Elimination:
    """An order of the inner vertices, and the multiplications of it and of the orders it was chosen from."""

    graph: ScalarGraph
    order: tuple[int, ...]
    count: int
    tried: dict[str, Number]


@no_type_check  # the search calls these millions of times: checked at each call they take most of the tests' time
class _Edges:
    """The edges in both directions, and the products that eliminating vertices takes."""

    def __init__(self, edges: Iterable[tuple[int, int, Any]] = ()):
        self.after: dict[int, dict[int, Any]] = {}
        self.before: dict[int, dict[int, Any]] = {}
        self.count = 0
        for u, w, value in edges:
            self.after.setdefault(u, {})[w] = self.before.setdefault(w, {})[u] = value

    def copy(self) -> "_Edges":
        """The same edges, to eliminate from."""
        new = _Edges()
        new.after, new.before = ({v: dict(to) for v, to in way.items()} for way in (self.after, self.before))
        return new

    def degree(self, k: int) -> int:
        """The product of the numbers of predecessors and of successors."""
        return len(self.before.get(k, ())) * len(self.after.get(k, ()))

    def eliminate(self, k: int) -> set[int]:
        """Join all predecessors of a vertex with all its successors; return both."""
        before, after = self.before.pop(k, {}), self.after.pop(k, {})
        for i in before:
            del self.after[i][k]
        for j in after:
            del self.before[j][k]
        for i, a in before.items():
            row, sign = self.after[i], _is_sign(a)
            for j, b in after.items():  # the innermost loop of the search: nothing is called
                if isinstance(b, int) and (b == 1 or b == -1):
                    product = a if b == 1 else -a
                elif sign:
                    product = b if a == 1 else -b
                else:
                    self.count += 1
                    product = a * b
                row[j] = self.before[j][i] = row[j] + product if j in row else product
        return {*before, *after}


def _is_sign(value: Any) -> bool:
    return isinstance(value, int) and abs(value) == 1


def _blank(graph: ScalarGraph) -> _Edges:
    """The edges with a sign where it is known, else a stand-in."""
    sign = lambda values: values[0] if len(values) == 1 and _is_sign(values[0]) else _VALUE
    return _Edges((u, w, sign(values)) for u, w, values in _terms(graph))


def _counted(blank: _Edges, order: Sequence[int]) -> Number:
    """The multiplications of an order; infinite where they are more than `MOST`."""
    edges = blank.copy()
    for k in order:
        if edges.count > MOST:
            return math.inf
        edges.eliminate(k)
    return edges.count


def _greedy(blank: _Edges, inner: Sequence[int], last: int) -> tuple[Number, list[int]]:
    """Markowitz: always the vertex of the smallest degree, of equal ones the first (last=-1: the last)."""
    edges, order = blank.copy(), list[int]()
    degrees = {k: (edges.degree(k), last * k) for k in inner}
    while degrees:
        if edges.count > MOST:
            return math.inf, order
        k = min(degrees, key=degrees.__getitem__)
        del degrees[k]
        order.append(k)
        degrees.update((v, (edges.degree(v), last * v)) for v in edges.eliminate(k) if v in degrees)
    return edges.count, order


def _improved(blank: _Edges, count: Number, order: Sequence[int]) -> tuple[Number, list[int]]:
    """Move one vertex at a time to a random place in the order, and keep what is no worse."""
    best, draw = list(order), random.Random(0)
    for _ in range(min(MOVES, int(_PRODUCTS // max(count, 1))) if 1 < len(best) <= _SMALL else 0):
        moved = list(best)
        k = moved.pop(draw.randrange(len(moved)))
        moved.insert(draw.randrange(len(best)), k)
        if (found := _counted(blank, moved)) <= count:
            count, best = found, moved
    return count, best


def find(graph: ScalarGraph) -> Elimination:
    """Try forward, reverse and Markowitz; improve the cheapest by moves."""
    ends = {*graph.inputs, *graph.outputs}
    inner, blank = sorted({v for u, to in graph.edges.items() for v in (u, *to)} - ends), _blank(graph)
    tried: dict[str, tuple[Number, Sequence[int]]] = {
        "fwd": (_counted(blank, inner), inner),
        "rev": (_counted(blank, inner[::-1]), inner[::-1]),
        "markowitz": min(_greedy(blank, inner, last) for last in (1, -1)),
    }
    if math.isinf(min(found for found, _ in tried.values())):
        raise NotScalarError(f"every order tried takes more than {MOST} multiplications: use 'chain', 'fwd' or 'rev'")
    tried["taken"] = count, order = _improved(blank, *min(tried.values(), key=lambda found: found[0]))
    return Elimination(graph, tuple(order), int(count), {name: found for name, (found, _) in tried.items()})


def plan(problem: FlatProblem) -> Elimination | str:
    """The elimination of a problem, or why there is none."""

    def make() -> Elimination | str:
        try:
            known = known_integers(problem.session.get("constants", ()))
            return find(scalar_graph(problem.graph, len(problem.outputs), known))
        except NotScalarError as error:
            return str(error)

    return problem.once("elimination", make)


def supports(problem: FlatProblem) -> str | None:
    """Real values, no side effects, rules that are linear, and few enough scalars."""
    if problem.graph.effects:
        return "the function has side effects, which cannot be split: use 'fwd' or 'rev'"
    if reason := problem.no_derivative or problem.no_forward or problem.unit_only:
        return reason
    if problem.is_complex:
        return "a complex value lies on the way of the derivative: use 'fwd' or 'rev'"
    found = plan(problem)
    return found if isinstance(found, str) else None


def _found(problem: FlatProblem) -> Elimination:
    found = plan(problem)
    assert isinstance(found, Elimination)
    return found


def cost(problem: FlatProblem) -> Cost:
    """One evaluation, the partial derivatives (as much as one tangent), and what is done to single numbers: each is
    taken out of an array, or is a product of two.
    """
    found, machine, itemsize = _found(problem), current(), problem.dtype.itemsize
    edges = sum(len(to) for to in found.graph.edges.values())
    work = Work("elementwise", found.count + edges, 0, 0, math.inf, math.inf, itemsize)
    seconds = 2 * machine.seconds(derivative_work(problem, False), 1) + machine.seconds([work], 1)
    seconds += (found.count + edges) * machine.dispatch / SINGLES
    seconds += problem.output_bytes / machine.bandwidth
    memory = (found.count + edges) * itemsize + problem.value_bytes + problem.output_bytes
    counts = ", ".join(f"{k} {found.tried[k]}" for k in ("fwd", "rev", "markowitz"))
    note = f"{found.count} multiplications ({counts})"
    return Cost(found.count, problem.output_bytes, seconds, memory, None, note)


def _terms(graph: ScalarGraph) -> list[tuple[int, int, list[int | Place]]]:
    return [(u, w, values) for u, to in graph.edges.items() for w, values in to.items()]


def _eliminated(found: Elimination, of: Callable[[int | Place], Any]) -> _Edges:
    """What is left after the order, given the value of a sign or a place."""
    edges = _Edges((u, w, sum(map(of, values[1:]), start=of(values[0]))) for u, w, values in _terms(found.graph))
    for k in found.order:
        edges.eliminate(k)
    return edges


def _by_levels(found: Elimination, local: dict[tuple[int, int], Any], dtype: Any) -> Any:
    """The entries of the Jacobian row by row, from the partial derivatives."""
    *offsets, size = itertools.accumulate((a.size for a in local.values()), initial=0)
    starts, table = dict(zip(local, offsets, strict=True)), ProductTable(size)
    edges = _eliminated(found, lambda v: v if isinstance(v, int) else table.number(starts[v[:2]] + v[2]))
    left = [edges.after.get(j, {}).get(i, 0) for i in found.graph.outputs for j in found.graph.inputs]
    return table.evaluate(jnp.concatenate([jnp.zeros(0, dtype), *local.values()]), left)


def build(problem: FlatProblem) -> Callable:
    """Emit the partial derivatives and the products of the order."""
    found = _found(problem)
    terms = _terms(found.graph)
    places = list(dict.fromkeys(v[:2] for *_, values in terms for v in values if isinstance(v, tuple)))

    def evaluate(constants: Sequence[Any], leaves: Sequence[Any]):
        outs, local = partials(problem.graph, constants, leaves, places)
        if found.count + len(terms) > SINGLE:
            flat = _by_levels(found, local, problem.dtype).astype(problem.dtype)
            return outs, blocks_of(flat.reshape(problem.m, problem.n), problem)
        edges = _eliminated(found, lambda v: v if isinstance(v, int) else local[v[:2]][v[2]])
        zero = jnp.zeros((), problem.dtype)
        entry = lambda i, j: jnp.asarray(edges.after.get(j, {}).get(i, zero), problem.dtype)
        entries = [[entry(i, j) for j in found.graph.inputs] for i in found.graph.outputs]
        if problem.m * problem.n <= _ONE_STACK:
            flat = jnp.stack([e for row in entries for e in row])
            return outs, blocks_of(flat.reshape(problem.m, problem.n), problem)
        return outs, blocks_of(jnp.stack([jnp.stack(row) for row in entries]), problem)

    return evaluate


register_method("elimination", supports=supports, cost=cost, build=build, reads_integers=True, automatic=False)
