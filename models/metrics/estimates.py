"""A measured number: its value, its unit, and how far another sample of examples would put it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

GROUPS = 20  # of a jackknife


class Measured(NamedTuple):
    """A number, or one for each of several things, with unit and standard error.

    error: standard deviation of the value over samples of as many examples (or over keys, for what is drawn); None
    where nothing is sampled, or too little to tell: one example, one batch, one group.
    """

    value: float | list[float]
    unit: str
    error: float | list[float] | None


def mean_of(values: Any, unit: str) -> Measured:
    """Return the mean over the first axis, with s / sqrt(n); an axis behind it gives a list. Values (n,) or (n, k)."""
    values = np.asarray(values, np.float64)
    n = len(values)
    # equal values spread by nothing, not by the rounding of their mean
    error = _plain((values - values[0]).std(0, ddof=1) / n**0.5) if n > 1 else None
    return Measured(_plain(values.mean(0)), unit, error)


def groups_of(n: int, groups: int = GROUPS, seed: int = 0) -> list[np.ndarray]:
    """Return `groups` (at most n) random parts of 0 .. n - 1, of sizes that differ by at most one."""
    return np.array_split(np.random.default_rng(seed).permutation(n), min(groups, n))


def jackknife(f: Callable[[np.ndarray], Any], n: int, unit: str, groups: int = GROUPS) -> Measured:
    """Return f of all examples, with the standard error by leaving out one group of examples at a time.

    f(index) is the number (or an array of them) that the examples at `index` give. The error is
    sqrt((G - 1) / G Σ_g (f_g - mean)²), f_g without group g (Quenouille 1956; Efron & Tibshirani 1993, chapter 11).
    """
    parts = groups_of(n, groups)
    without = [f(np.sort(np.concatenate([p for p in parts if p is not part]))) for part in parts] if n > 1 else []
    return Measured(_plain(f(np.arange(n))), unit, spread(without))


def spread(without: Any) -> float | list[float] | None:
    """Return the jackknife's standard error from the values without each group, (groups,) or (groups, k).

    None where there is one group, or where the number cannot be had without one of them.
    """
    left = np.asarray(without, np.float64)
    g = len(left)
    if g < 2 or not np.isfinite(left).all():
        return None
    left = left - left[0]  # as in `mean_of`
    return _plain(np.sqrt((g - 1) / g * np.square(left - left.mean(0)).sum(0)))


def share(hits: Any, unit: str = "share") -> Measured:
    """Return the share of true values, with the standard error of a binomial share."""
    hits = np.asarray(hits, bool)
    p = float(hits.mean())
    return Measured(p, unit, (p * (1 - p) / len(hits)) ** 0.5)


def _plain(value: Any) -> Any:
    """Return a float, or a list of floats."""
    return np.asarray(value, np.float64).tolist()
