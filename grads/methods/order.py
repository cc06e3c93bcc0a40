"""The cheapest order of a chain of local Jacobians, by dynamic programming.

For segments i..j-1 between states of widths w_i and w_j, the Jacobian is one of

    leaf      one segment of known structure (a weight matrix, a diagonal), or by w_i tangents or w_j
              cotangents
    forward   w_i tangents through all segments;     reverse   w_j cotangents through all of them
    tangent   J(i,k), then its w_i columns through k..j;   adjoint   J(k,j), then its w_j rows through i..k
    product   J(k,j) @ J(i,k)

and the cheapest choice for every range follows from shorter ranges. Sources: Griewank & Naumann (2003), Accumulating
Jacobians as chained sparse matrix products; Naumann, arXiv 2406.11862; Maertens & Naumann, arXiv 2505.06056.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from grads.costs.machine import Machine, Number, Work, operations
from grads.costs.work import work_of
from grads.programs.graph import width
from grads.programs.local import LINEARISED, Segment
from grads.programs.primitives import HOLDING, PARTLY
from grads.programs.rules import blocked

_MOVING = frozenset(("select", "spread"))


@dataclass(frozen=True)
class Step:
    """How the Jacobian of segments start..stop-1 is made; `operations` and `seconds` include the parts.

    form: "dense", "identity", "diagonal", "select" or "spread", as of a segment (`grads.programs.local`).
    """

    action: str
    start: int
    stop: int
    split: int | None
    seconds: Number
    operations: Number
    form: str = "dense"

    @property
    def cut(self) -> int:
        """The split of a "tangent", "adjoint" or "product"; the other actions have none."""
        assert self.split is not None, f"{self.action!r} does not split its range"
        return self.split


@dataclass(frozen=True)
class JacobianChain:
    """Segments, the widths of the states between them, and the cheapest way to bracket them.

    `inner`: the widest value inside each segment; `chunk`: columns at a time, where the plan is cheaper in a loop.
    """

    segments: tuple[Segment, ...]
    widths: tuple[int, ...]
    inner: tuple[int, ...]
    steps: dict[tuple[int, int], Step]
    tables: Any = None
    chunk: int | None = None

    def columns(self, step: Step) -> int:
        """Tangents or cotangents that a step pushes (0: it has none)."""
        counts = {"forward": self.widths[step.start], "reverse": self.widths[step.stop]}
        return counts.get({"tangent": "forward", "adjoint": "reverse"}.get(step.action, step.action), 0)

    def push_cost(self, action: str, split: int) -> tuple[Number, Number]:
        """(seconds, operations) of "tangent" through split..end, or of "adjoint" through 0..split."""
        t, last = self.tables, len(self.segments)
        if action == "tangent":
            return t.pushed(0, split, last), t.operations(split, last, self.widths[0], 0)
        return t.pulled(last, 0, split), t.operations(0, split, self.widths[-1], 1)

    @property
    def root(self) -> Step:
        """The step that gives the whole Jacobian."""
        return self.steps[0, len(self.segments)]

    def parts(self, step: Step) -> tuple[Step, ...]:
        """The steps a step builds on."""
        if step.action in ("leaf", "forward", "reverse"):
            return ()
        left, right = self.steps[step.start, step.cut], self.steps[step.cut, step.stop]
        return {"tangent": (left,), "adjoint": (right,), "product": (left, right)}[step.action]

    def walk(self, step: Step | None = None) -> list[Step]:
        """All steps of the plan, parts first."""
        step = step or self.root
        return [s for part in self.parts(step) for s in self.walk(part)] + [step]

    def held(self, step: Step) -> int:
        """Elements of the operands of a step; a weight matrix is the user's own, a diagonal is a vector.

        Times an identity, the other operand is the result.
        """
        parts = self.parts(step)
        if any(p.action == "leaf" and self.segments[p.start].kind == "identity" for p in parts):
            return 0
        return sum(self.widths[p.start] * self.widths[p.stop] for p in parts if p.action != "leaf")

    def peak(self, root: Step, chunk: int | None) -> Number:
        """Most elements at once over the steps: operands, result, and what the columns in flight hold."""
        most = 0.0
        for s in self.walk(root):
            columns = self.columns(s)
            looped = bool(chunk) and columns > (chunk or 0)
            # what goes in and what comes out; in a loop also the slice of the stack that is at work
            flight = (3 if looped else 2) * min(columns, chunk or columns) * self._widest(s)
            stacked = self.widths[s.start] * self.widths[s.stop] if looped else 0
            most = max(most, flight + stacked + self.held(s))
        return most

    def _widest(self, step: Step) -> int:
        """Widest live value that a step pushes its columns through."""
        first = step.cut if step.action == "tangent" else step.start
        last = step.cut if step.action == "adjoint" else step.stop
        return max((*self.inner[first:last], *self.widths[first : last + 1]))

    @cached_property
    def factored(self) -> Step:
        """The way that ends in a product through the narrowest cut; the root where no cut is narrow."""
        last = len(self.segments)
        options = []
        for k in range(1, last):
            if self.widths[k] < min(self.widths[0], self.widths[-1]):
                a, b = self.steps[0, k], self.steps[k, last]
                seconds, ops = a.seconds + b.seconds, a.operations + b.operations
                options.append(Step("product", 0, last, k, seconds, ops))
        return min(options, key=lambda s: (self.widths[s.cut], s.seconds)) if options else self.root


def bracket(segments: Sequence[Segment], active: frozenset, machine: Machine, itemsize: int) -> JacobianChain:
    """Find the cheapest bracketing of a chain of segments."""
    segments = tuple(segments)
    widths = (width(segments[0].ins), *(width(s.outs) for s in segments))
    tables = _Tables(segments, widths, active, machine, itemsize)
    steps: dict[tuple[int, int], Step] = {}
    count = len(segments)
    for k in range(count):
        steps[k, k + 1] = tables.leaf(k)
    for length in range(2, count + 1):
        for i in range(count - length + 1):
            steps[i, i + length] = _best(steps, tables, i, i + length)
    sizes = [[o.aval.size for e in s.eqns for o in e.outvars if o in active] for s in segments]
    return JacobianChain(segments, widths, tuple([max(inside, default=0) for inside in sizes]), steps, tables)


def _best(steps: dict, t: "_Tables", i: int, j: int) -> Step:
    w, best = t.widths, t.pushed(i, i, j)
    found: tuple[str, int | None] = ("forward", None)
    reverse = t.pulled(j, i, j)
    if reverse < best:
        best, found = reverse, ("reverse", None)
    products = {k: t.product(steps[i, k], steps[k, j]) for k in range(i + 1, j)}
    for k, (product, _) in products.items():
        a, b = steps[i, k], steps[k, j]
        for action, seconds in (
            ("product", a.seconds + b.seconds + product),
            ("tangent", a.seconds + t.pushed(i, k, j)),
            ("adjoint", b.seconds + t.pulled(j, i, k)),
        ):
            if seconds < best:
                best, found = seconds, (action, k)
    action, split = found
    k = i if split is None else split  # read only by the actions that have a split
    ops = {
        "forward": lambda: t.operations(i, j, w[i], 0),
        "reverse": lambda: t.operations(i, j, w[j], 1),
        "tangent": lambda: steps[i, k].operations + t.operations(k, j, w[i], 0),
        "adjoint": lambda: steps[k, j].operations + t.operations(i, k, w[j], 1),
        "product": lambda: steps[i, k].operations + steps[k, j].operations + products[k][1],
    }[action]()
    form = _form(steps[k, j], steps[i, k]) if action == "product" else "dense"
    return Step(action, i, j, split, best, ops, form)


def _form(b: Step, a: Step) -> str:
    """The form of J(b) @ J(a)."""
    forms = [s.form for s in (a, b) if s.form != "identity"]
    kept = [f for f in forms if f != "diagonal"]
    if len(set(kept)) == 1:
        return kept[0]
    return "dense" if kept else "diagonal" if forms else "identity"


class _Tables:
    """Seconds and operations of ranges of segments, by prefix sums for each number of columns that can occur."""

    def __init__(self, segments, widths, active, machine, itemsize):
        self.segments, self.widths, self.machine, self.itemsize = segments, widths, machine, itemsize
        works = [[work_of(s.eqns, active, reverse) for s in segments] for reverse in (False, True)]
        carrying = [[e for e in s.eqns if not active.isdisjoint(e.outvars)] for s in segments]
        carrying = [[e for e in es if e.primitive.name in HOLDING | PARTLY] for es in carrying]
        never = [[any([blocked(e, reverse, active) for e in es]) for es in carrying] for reverse in (False, True)]
        seconds = [{p: [machine.seconds(ws, p) for ws in works[d]] for p in set(widths)} for d in (0, 1)]
        self._seconds = [{p: _sums(never[d], each) for p, each in seconds[d].items()} for d in (0, 1)]
        self._ops = [list(itertools.accumulate([operations(ws, 1) for ws in works[d]], initial=0.0)) for d in (0, 1)]

    def pushed(self, columns_of: int, i: int, j: int) -> Number:
        """Seconds of w[columns_of] tangents through segments i..j-1."""
        return _difference(self._seconds[0][self.widths[columns_of]], i, j)

    def pulled(self, rows_of: int, i: int, j: int) -> Number:
        """Seconds of w[rows_of] cotangents through segments i..j-1, backwards."""
        return _difference(self._seconds[1][self.widths[rows_of]], i, j)

    def operations(self, i: int, j: int, columns: int, direction: int) -> Number:
        """Operations of so many tangents (0) or cotangents (1) through segments i..j-1."""
        return (self._ops[direction][j] - self._ops[direction][i]) * columns

    def leaf(self, k: int) -> Step:
        """The Jacobian of one segment."""
        kind, n, m = self.segments[k].kind, self.widths[k], self.widths[k + 1]
        if kind != "general":
            ops, seconds = (float(m), self.machine.dispatch) if kind in LINEARISED else (0.0, 0.0)
            return Step("leaf", k, k + 1, None, seconds, ops, "dense" if kind == "weight" else kind)
        forward, reverse = self.pushed(k, k, k + 1), self.pulled(k + 1, k, k + 1)
        if forward <= reverse:
            return Step("forward", k, k + 1, None, forward, self.operations(k, k + 1, n, 0))
        return Step("reverse", k, k + 1, None, reverse, self.operations(k, k + 1, m, 1))

    def product(self, a: Step, b: Step) -> tuple[Number, Number]:
        """(seconds, operations) of J(b) @ J(a)."""
        m, k, n = self.widths[b.stop], self.widths[b.start], self.widths[a.start]
        if "identity" in (a.form, b.form):
            return 0.0, 0.0
        form = _form(b, a)
        if form != "dense":
            return self.machine.dispatch, float(k)
        if not _MOVING.isdisjoint((a.form, b.form)):  # rows (columns) are copied, or added to zeros
            read = k * n if b.form == "spread" else m * k if a.form == "select" else m * n
            work = Work("elementwise", 0, (m * n + read) * self.itemsize, 0, math.inf, math.inf, self.itemsize)
            return self.machine.seconds([work], 1), 0.0
        if "diagonal" in (a.form, b.form):
            # fused into the producer of the other factor or into the consumer of the result
            work = Work("elementwise", m * n / 2, m * n * self.itemsize / 2, 0, math.inf, math.inf, self.itemsize)
            return self.machine.seconds([work], 1) - self.machine.dispatch, float(m * n)
        moved, read = m * n * self.itemsize, (m * k + k * n) * self.itemsize
        work = Work("dot", 2.0 * m * k * n, moved, read, math.inf, min(m, k, n), self.itemsize)
        return self.machine.seconds([work], 1), 2.0 * m * k * n


def _sums(blocked: Sequence[bool], seconds: Sequence[Number]) -> list[tuple[int, Number]]:
    """Prefix sums of (blocked segments, seconds)."""
    out: list[tuple[int, Number]] = [(0, 0.0)]
    for stop, each in zip(blocked, seconds, strict=True):
        out.append((out[-1][0] + stop, out[-1][1] + each))
    return out


def _difference(sums: list[tuple[int, Number]], i: int, j: int) -> Number:
    return math.inf if sums[j][0] > sums[i][0] else sums[j][1] - sums[i][1]
