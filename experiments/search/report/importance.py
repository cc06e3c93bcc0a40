"""How much of the spread of a metric each field explains on its own, with a bootstrap interval."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from experiments.reporting.statistics import Interval
from experiments.search.space.domains import Choice, Domain


def cells(values: Sequence[Any], domain: Domain) -> Int[np.ndarray, " n"]:
    """Return the cell of each value: a choice each, or quantile bins of a range (about n^(1/3) of them)."""
    if isinstance(domain, Choice):
        return np.unique([repr(v) for v in values], return_inverse=True)[1]
    x = np.asarray(values, dtype=np.float64)
    bins = int(np.clip(round(len(x) ** (1 / 3)), 2, 8))
    edges = np.quantile(x, np.arange(1, bins) / bins)
    return np.searchsorted(edges, x, side="right")


def average_ranks(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the ranks of values from 0, equal values sharing the mean of theirs: their order in the table is none."""
    _, which, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[which]


def explained(cell: Int[np.ndarray, "*b n"], y: Float[np.ndarray, "*b n"]) -> Float[np.ndarray, "*b"]:
    """Return the share of the variance of y between cells, 1 - E[Var(y | cell)] / Var(y), adjusted for chance.

    This is the first-order Sobol index of the field, estimated by a one-way analysis of variance; with k cells
    the plain share is above 0 by (k - 1) / (n - 1) even for noise, which the adjustment takes off.
    """
    n, count = y.shape[-1], int(cell.max()) + 1
    member = cell[..., None, :] == np.arange(count)[:, None]
    size = member.sum(axis=-1)
    mean = (member * y[..., None, :]).sum(axis=-1) / np.maximum(size, 1)
    within = ((y - np.take_along_axis(mean, cell, axis=-1)) ** 2).sum(axis=-1) / np.maximum(
        n - (size > 0).sum(axis=-1), 1
    )
    total = y.var(axis=-1, ddof=1)
    return np.clip(1 - within / np.where(total > 0, total, np.inf), 0, 1) * (total > 0)


def importance(
    points: Sequence[Mapping[str, Any]],
    scores: Sequence[float],
    domains: Mapping[str, Domain],
    *,
    times: int = 400,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return, per field, the share of the variance of the scores' ranks that it explains, the largest first.

    Ranks keep one diverging run from deciding. A field is judged on the points that have it; the interval is
    the 95% bootstrap over points, moved by its bias. Fields with fewer than 8 points are left out.
    """
    out = {}
    for name, domain in domains.items():
        have = [i for i, values in enumerate(points) if name in values]
        if len(have) < 8:
            continue
        cell = cells([points[i][name] for i in have], domain)
        y = average_ranks(np.asarray([scores[i] for i in have], dtype=np.float64))
        index = np.random.default_rng(seed).integers(0, len(y), size=(times, len(y)))
        draws, at = explained(cell[index], y[index]), float(explained(cell, y))
        low, high = np.clip(np.quantile(draws, [0.025, 0.975]) - (draws.mean() - at), 0, 1)
        out[name] = Interval(at, min(float(low), at), max(float(high), at))
    return dict(sorted(out.items(), key=lambda item: -item[1].estimate))
