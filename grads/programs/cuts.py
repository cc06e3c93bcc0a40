"""Where to cut a program into a chain of local Jacobians.

At each equation boundary the state is all live active values, and its width is their total size: so heads with two
outputs, skip connections and U-Nets have cuts too, only wider ones. Candidates are boundaries with one live value and
local minima of the width profile; at most about 30 are kept, the relatively narrowest first.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from jax.extend.core import Var

from grads.programs.graph import Graph, width
from grads.programs.local import Segment, classify

MOST_CUTS = 30


def candidates(graph: Graph) -> list[int]:
    """Boundaries worth a cut, the first and the last included."""
    widths, live = graph.widths, graph.live
    last = len(widths) - 1
    if not last:
        return [0]
    single = [b for b in range(1, last) if len(live[b]) == 1 and widths[b]]
    fixed = [0, *single, last]
    keep = list(fixed)
    for b in range(1, last):
        around = max(
            widths[max(f for f in fixed if f <= b)], widths[min(f for f in fixed if f >= b)]
        )  # several values together must be narrower than the single ones beside them
        if len(live[b]) > 1 and widths[b] <= 0.9 * around and _is_minimum(widths, b):
            keep.append(b)
    return sorted(keep)


def _is_minimum(widths: Sequence[int], b: int) -> bool:
    """True when the nearest other widths on both sides are larger."""
    before = next((w for w in reversed(widths[:b]) if w != widths[b]), None)
    after = next((w for w in widths[b + 1 :] if w != widths[b]), None)
    return (before is None or widths[b] < before) and (after is None or widths[b] < after)


def end_state(graph: Graph) -> tuple[Any, ...]:
    """The distinct active outputs, in the order of the outputs."""
    active = graph.active
    return tuple(dict.fromkeys([v for v in graph.outvars if isinstance(v, Var) and v in active]))


def segments(graph: Graph) -> list[Segment]:
    """Cut a graph into segments of known structure; neighbouring diagonal ones are joined."""
    marks = candidates(graph)
    states = [*(graph.live[b] for b in marks[:-1]), end_state(graph)]
    out: list[Segment] = []
    for k in range(len(marks) - 1):
        new = classify(graph.body[marks[k] : marks[k + 1]], states[k], states[k + 1], graph.active)
        if out and _scaling(out[-1]) and _scaling(new):
            new = classify(out[-1].eqns + new.eqns, out[-1].ins, new.outs, graph.active)
            out.pop()
        out.append(new)
    return _prune(out, graph.active)


def _scaling(s: Segment) -> bool:
    return s.kind in ("diagonal", "identity")


def _prune(parts: list[Segment], active: frozenset) -> list[Segment]:
    """Join segments at the relatively widest inner cuts until there are few enough."""
    parts = list(parts)
    while len(parts) > MOST_CUTS:
        ratios = [width(a.outs) / max(1, min(width(a.ins), width(b.outs))) for a, b in itertools.pairwise(parts)]
        worst = max(range(len(ratios)), key=ratios.__getitem__)
        a, b = parts[worst], parts[worst + 1]
        parts[worst : worst + 2] = [classify(a.eqns + b.eqns, a.ins, b.outs, active)]
    return parts
