"""What a table's seeds say beyond a mean: interquartile means, paired differences, probability of improvement.

All of it is computed from the per-seed metrics that a table's JSON holds, so an older result shows it too. The methods
are those of Agarwal et al. 2021, sections 4.1 to 4.3 (see `experiments.reporting.statistics`); less is better here.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.reporting.statistics import Interval, bootstrap_interval, paired_difference, probability_of_improvement

LEAST_SEEDS = 3  # below, a bootstrap has next to nothing to resample


class PairedRows(NamedTuple):
    """A row against another one on the seeds that both finished: ours minus theirs, and P(ours is lower)."""

    seeds: int
    t: Interval
    """mean difference with the t interval of the pairs: it decides the verdict"""
    bootstrap: Interval
    """mean difference with the percentile interval of resampled pairs"""
    improvement: Interval
    """probability that a run of ours is lower than a run of theirs, ties one half"""


def values_of(record: Mapping[str, Any], row: str, metric: str | None = None) -> list[float]:
    """Return a row's values of a metric, one per seed; [] where the row has no such metric.

    JSON has no infinities and no nan: they come back from their words.
    """
    found = record["rows"][row]["metrics"].get(metric or record["metric"], [])
    return [float(v) for v in found]


def interquartile_of(record: Mapping[str, Any], row: str) -> Interval | None:
    """Return the interquartile mean of the finite seeds with its bootstrap interval; None for too few or a baseline."""
    values = [v for v in values_of(record, row) if math.isfinite(v)]
    if record["rows"][row].get("exact") or len(values) < LEAST_SEEDS:
        return None
    return bootstrap_interval(values)


def compared(record: Mapping[str, Any], row: str, other: str) -> PairedRows | None:
    """Return a row against another, seed by seed; None where no seed has both. An exact baseline meets every seed."""
    mine, theirs = values_of(record, row), values_of(record, other)
    if record["rows"][other].get("exact"):
        theirs = theirs * len(mine)
    count = min(len(mine), len(theirs))
    a, b = np.asarray(mine[:count]), np.asarray(theirs[:count])
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.any():
        return None
    a, b = a[finite], b[finite]
    mean = lambda sample: sample.mean(axis=(-2, -1))
    return PairedRows(
        len(a), paired_difference(a, b), bootstrap_interval(a - b, mean), probability_of_improvement(-a, -b)
    )


def rival(record: Mapping[str, Any], row: str) -> PairedRows | None:
    """Return the row against the row that is its bound; None where its bound is none or a number."""
    bound = record["rows"][row]["bound"]
    return compared(record, row, bound) if isinstance(bound, str) and bound in record["rows"] else None
