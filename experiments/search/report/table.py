"""From records to the table: rows, results.csv, the best point with its interval, the front."""

import csv
import io
import math
import statistics as plain
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.reporting.statistics import Interval, pareto_front, t_interval
from experiments.search.proposals.schedule import SweepPlan
from experiments.search.record.ledger import Record

FIXED = ("trial", "point", "rung", "seed", "fold", "status")


def metric_names(records: Iterable[Record]) -> list[str]:
    """Return every metric that some trial reports, sorted."""
    return sorted({name for r in records for name in r["result"]["metrics"]})


def _cell(value: Any) -> Any:
    """Return a value as the table writes it: floats by their shortest exact text, lists as words with spaces."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return repr(value) if isinstance(value, float) else value


def to_csv(records: Sequence[Record], fields: Sequence[str]) -> str:
    """Return the table as text: one row per trial by key; no times, so equal sweeps have equal bytes."""
    metrics = metric_names(records)
    budget = sorted({name for r in records for name in r["spec"]["budget"]})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*FIXED, *budget, *fields, *metrics, "reason"])
    for r in sorted(records, key=lambda r: r["key"]):
        spec, result = r["spec"], r["result"]
        row = [r["key"], spec["point"], spec["rung"], spec["seed"], spec["fold"], result["status"]]
        row += [spec["budget"].get(name, "") for name in budget]
        row += [_cell(spec["values"].get(name, "")) for name in fields]
        row += [_cell(result["metrics"].get(name, "")) for name in metrics]
        writer.writerow([*row, result["reason"] or "; ".join(reasons(r))])
    return out.getvalue()


def reasons(record: Record) -> list[str]:
    """Return "metric: why" of all that a trial could not have."""
    return [f"{name}: {why}" for name, why in record["result"].get("not_measured", {}).items()]


def not_measured_of(records: Iterable[Record]) -> dict[str, list[str]]:
    """Return {"metric: why": how many trials could not have it, in words}."""
    count = Counter(why for r in records for why in reasons(r))
    return {why: [f"{n} trial{'s' * (n > 1)}"] for why, n in count.items()}


def units_of(records: Iterable[Record]) -> dict[str, str]:
    """Return the units of metrics that trials measured by name."""
    return {name: unit for r in records for name, unit in r["result"].get("units", {}).items()}


class TriedPoint(NamedTuple):
    """A point of the space at the last rung it reached, over its seeds and folds."""

    point: int
    rung: int
    values: dict[str, Any]
    scores: dict[str, list[float]]  # metric -> one number per run

    @property
    def key(self) -> str:
        """The name of its trial with the first seed and fold."""
        return f"{self.point:05d}-r{self.rung}-s0-f0"

    def mean(self, metric: str) -> float:
        """Return the mean of a metric over the runs."""
        return plain.fmean(self.scores[metric])

    def interval(self, metric: str) -> Interval:
        """Return the mean with its t interval over the runs (folds share data: then it is too narrow)."""
        return t_interval(self.scores[metric])


def points_of(records: Sequence[Record], plan: SweepPlan) -> list[TriedPoint]:
    """Return the points whose runs all ended well, each at its last rung, by index."""
    runs: dict[tuple[int, int], list[Record]] = {}
    for r in records:
        runs.setdefault((r["spec"]["point"], r["spec"]["rung"]), []).append(r)
    out: dict[int, TriedPoint] = {}
    for (point, rung), group in sorted(runs.items()):
        whole = len(group) == plan.seeds * max(plan.folds, 1)
        if whole and all(r["result"]["status"] == "ok" for r in group):
            names = set.intersection(*(set(r["result"]["metrics"]) for r in group))
            group = sorted(group, key=lambda r: r["key"])
            scores = {n: [float(r["result"]["metrics"][n]) for r in group] for n in sorted(names)}
            if all(m in names for m in plan.objectives):
                out[point] = TriedPoint(point, rung, group[0]["spec"]["values"], scores)
    return list(out.values())


def best(points: Sequence[TriedPoint], plan: SweepPlan) -> TriedPoint | None:
    """Return the point with the best mean of the first metric among those that reached the highest rung."""
    last = max((p.rung for p in points), default=0)
    metric, sign = plan.objectives[0], (1 if plan.minimize else -1)
    ranked = sorted((p for p in points if p.rung == last), key=lambda p: (sign * p.mean(metric), p.point))
    return ranked[0] if ranked else None


def front(points: Sequence[TriedPoint], plan: SweepPlan) -> list[TriedPoint]:
    """Return the points that no other beats in every metric, by the first metric."""
    if not points:
        return []
    signs = [1.0] * len(plan.minimize) + [-1.0] * len(plan.maximize)
    values = np.array([[s * p.mean(m) for s, m in zip(signs, plan.objectives, strict=True)] for p in points])
    chosen = [p for p, keep in zip(points, pareto_front(values), strict=True) if keep]
    return sorted(chosen, key=lambda p: p.mean(plan.objectives[0]))


def describe_point(point: TriedPoint, metric: str) -> str:
    """Return one line: the metric with its interval, and the values."""
    got = point.interval(metric)
    number = str(got) if math.isfinite(got.high) else f"{got.estimate:.4g}"
    values = ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in point.values.items())
    return f"{metric} {number} at {values}"
