"""Statistics for few runs: interquartile mean, bootstrap intervals, improvement, profiles.

Scores are arrays (runs, tasks): one row per seed, one column per task, dataset or row of a table. The ideas are
those of Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (sections
4.1 to 4.3): a point estimate is never reported without its interval, and the interval resamples runs within
each task.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Statistic = Callable[[np.ndarray], np.ndarray]


class Interval(NamedTuple):
    """An estimate and the two ends of its interval, in the unit of the scores."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}]"


def _scores(scores: object, least: int = 1) -> np.ndarray:
    """Return scores as float64 (runs, tasks); a vector is one task. Raises ValueError when too few or not finite."""
    array = np.asarray(scores, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[0] < least or array.shape[1] < 1:
        raise ValueError(f"scores must be (runs >= {least}, tasks), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"scores must be finite: {np.count_nonzero(~np.isfinite(array))} of {array.size} are not")
    return array


def interquartile_mean(scores: Float[np.ndarray, "*runs"], axis: int | None = None) -> np.ndarray:
    """Return the mean of the middle half: a quarter of the values, rounded down, is cut at each end.

    As robust as the median against outliers, but with the efficiency of a mean of half the data.
    """
    values = np.asarray(scores, dtype=np.float64)
    values = values.reshape(-1) if axis is None else np.moveaxis(values, axis, -1)
    n = values.shape[-1]
    if n == 0:
        raise ValueError("the interquartile mean of no values does not exist")
    cut = n // 4
    return np.sort(values, axis=-1)[..., cut : n - cut].mean(axis=-1)


def t_interval(values: object, level: float = 0.95) -> Interval:
    """Return mean +- t_{n-1} s / sqrt(n) over seeds (values of one task). One value has an infinite interval."""
    x = _scores(values)[:, 0]
    mean, n = float(x.mean()), len(x)
    if n == 1:
        return Interval(mean, -np.inf, np.inf)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.5 + level / 2) * x.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half)


def paired_difference(a: object, b: object, level: float = 0.95) -> Interval:
    """Return the t interval of mean(a - b) over runs that share their seeds, position by position."""
    x, y = _scores(a), _scores(b)
    if x.shape != y.shape:
        raise ValueError(f"paired scores need equal shapes, got {x.shape} and {y.shape}")
    return t_interval((x - y).mean(axis=1), level)


def resample(
    scores: Float[np.ndarray, "runs tasks"], rng: np.random.Generator, times: int
) -> Float[np.ndarray, "times runs tasks"]:
    """Return bootstrap samples, stratified: runs are drawn with replacement within each task on its own."""
    runs, tasks = scores.shape
    index = rng.integers(0, runs, size=(times, runs, tasks))
    return np.take_along_axis(scores[None], index, axis=1)


def _whole(sample: np.ndarray) -> np.ndarray:
    """Return the interquartile mean of each (runs, tasks) block of a stack."""
    return interquartile_mean(sample.reshape(*sample.shape[:-2], -1), axis=-1)


def bootstrap_interval(
    scores: object, statistic: Statistic = _whole, *, level: float = 0.95, times: int = 2000, seed: int = 0
) -> Interval:
    """Return a statistic with its percentile interval under the stratified bootstrap.

    `statistic` maps (..., runs, tasks) to (...); the default is the interquartile mean over runs and tasks.
    """
    x = _scores(scores)
    draws = statistic(resample(x, np.random.default_rng(seed), times))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(x)), float(low), float(high))


def _improvement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return mean over tasks of P(X > Y) + P(X = Y) / 2 for stacks (..., runs, tasks)."""
    gap = np.sign(x[..., :, None, :] - y[..., None, :, :])
    return (0.5 + 0.5 * gap).mean(axis=(-3, -2, -1))


def probability_of_improvement(
    x: object, y: object, *, level: float = 0.95, times: int = 2000, seed: int = 0
) -> Interval:
    """Return P(a run of x scores higher than a run of y), averaged over tasks, with its bootstrap interval.

    This is the Mann-Whitney U statistic divided by its maximum; ties count one half.
    """
    a, b = _scores(x), _scores(y)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"both need the same tasks, got {a.shape[1]} and {b.shape[1]}")
    rng = np.random.default_rng(seed)
    draws = _improvement(resample(a, rng, times), resample(b, rng, times))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(_improvement(a, b)), float(low), float(high))


def performance_profile(scores: object, thresholds: Float[np.ndarray, " taus"]) -> Float[np.ndarray, " taus"]:
    """Return, for each threshold tau, the fraction of runs over all tasks with a score above tau."""
    x = _scores(scores).reshape(-1)
    return (x[None, :] > np.asarray(thresholds, dtype=np.float64)[:, None]).mean(axis=1)


def pareto_front(values: Float[np.ndarray, "points objectives"]) -> np.ndarray:
    """Return a mask of the points that no other point dominates; every objective is minimised.

    a dominates b when a <= b everywhere and a < b somewhere; rows with a value that is not finite never belong.
    """
    x = np.asarray(values, dtype=np.float64)
    good: np.ndarray = np.asarray(np.isfinite(x).all(axis=1))
    front = good.copy()
    for i in np.flatnonzero(good):
        beaten = (x[good] <= x[i]).all(axis=1) & (x[good] < x[i]).any(axis=1)
        front[i] = not beaten.any()
    return front
