"""sweep.html: the whole sweep as one file that needs no network, drawn by its own script."""

import html
import json
import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

from experiments.search.proposals.schedule import SweepPlan
from experiments.search.record.ledger import Record
from experiments.search.report.importance import importance
from experiments.search.report.table import TriedPoint, best, describe_point, front, points_of
from experiments.search.space.domains import Choice, Domain
from experiments.search.space.space import Space

SCRIPTS = ("draw.js", "brush.js", "charts.js", "main.js")


def script_json(value: Any) -> str:
    """Return JSON that is safe inside <script>: no character that could end it or start a comment."""
    text = json.dumps(value, allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def searched(space: Space) -> dict[str, Domain]:
    """Return the fields that take more than one value: a fixed one has nothing to show."""
    return {n: d for n, d in space.domains if not (isinstance(d, Choice) and len(d.values) == 1)}


def _fields(space: Space) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for name, domain in searched(space).items():
        if isinstance(domain, Choice):
            out.append({"name": name, "values": [_word(v) for v in domain.values]})
        else:
            out.append({"name": name, "low": domain.low, "high": domain.high, "log": domain.log})
    return out


def _word(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _point(point: TriedPoint, plan: SweepPlan, space: Space, on_front: set[int]) -> dict[str, Any]:
    """Return what the page shows of a point: values, and per metric its mean, interval ends and runs."""
    choices = {name for name, domain in space.domains if isinstance(domain, Choice)}
    metrics = {}
    for name in plan.objectives:
        got = point.interval(name)
        metrics[name] = [_finite(v) for v in got] + [[_finite(v) for v in point.scores[name]]]  # type: ignore[list-item]
    values = {k: _word(v) if k in choices else v for k, v in point.values.items()}
    return {
        "id": point.point,
        "rung": point.rung,
        "values": values,
        "metrics": metrics,
        "front": point.point in on_front,
    }


def _trial(record: Record) -> dict[str, Any]:
    spec, timing, result = record["spec"], record["timing"], record["result"]
    return {
        "key": record["key"],
        "point": spec["point"],
        "status": result["status"],
        "reason": result["reason"],
        "ended": timing["ended"],
        "seconds": timing["seconds"],
        "worker": f"{timing['machine'].split(' ')[0]} {timing['pid']}",
    }


def page_data(records: Sequence[Record], plan: SweepPlan, space: Space, train: str = "") -> dict[str, Any]:
    """Return everything the page draws, as plain JSON values. train: the command that trains the best point, or ""."""
    points = points_of(records, plan)
    last = max((p.rung for p in points), default=0)
    at_last = [p for p in points if p.rung == last]
    scores = [p.mean(plan.objectives[0]) for p in at_last]
    found = importance([p.values for p in at_last], scores, searched(space))
    on_front = {p.point for p in front(points, plan)} if len(plan.objectives) > 1 else set()
    winner = best(points, plan)
    return {
        "metrics": [{"name": m, "sign": 1 if m in plan.minimize else -1} for m in plan.objectives],
        "fields": _fields(space),
        "points": [_point(p, plan, space, on_front) for p in points],
        "trials": [_trial(r) for r in records],
        "importance": [{"name": name, "interval": list(interval)} for name, interval in found.items()],
        "best": winner.point if winner else None,
        "last": last,
        "summary": describe_point(winner, plan.objectives[0]) if winner else "no point has a score",
        "train": train,
        "sampler": plan.sampler,
        "runs": plan.seeds * max(plan.folds, 1),
    }


def sweep_page(records: Sequence[Record], plan: SweepPlan, space: Space, train: str = "") -> str:
    """Return the page as text. Names and reasons reach it as JSON and are written by textContent only."""
    folder = resources.files("experiments.search.report") / "page_files"
    read = lambda name: (folder / name).read_text(encoding="utf-8")
    title = html.escape(f"Sweep of {', '.join(space.names)}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">\n'
        f"<style>\n{read('page.css')}</style></head>\n<body><main></main>\n"
        f'<script type="application/json" id="data">{script_json(page_data(records, plan, space, train))}</script>\n'
        f"<script>\n{''.join(read(name) for name in SCRIPTS)}</script>\n</body></html>\n"
    )
