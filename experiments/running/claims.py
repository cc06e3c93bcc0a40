"""Claims: numbers that are computed from a result's rows, and the ends that they are to lie between.

A claim's verdict follows from its 95% interval over seeds: met where the whole interval lies inside, missed where it
lies outside, and "in the mean" where the interval holds an end.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Numbers = Mapping[str, Mapping[str, np.ndarray]]
"""{row: {metric: (seeds,) values}}"""


class Claim(NamedTuple):
    """What is claimed in words; its number, (seeds,) or one, from those of the rows; what it should be."""

    text: str
    of: Callable[[Numbers], Any]
    low: float = -math.inf
    high: float = math.inf
    expected: float | None = None
    """the number that was published or seen before"""


def best(rows: Numbers, names: Sequence[str], metric: str, most: bool = False, by: str = "") -> np.ndarray:
    """Return a metric, (seeds,), of the named row whose mean of it (of another one: `by`) is least, or `most`.

    Raises KeyError where none of them ran.
    """
    ran = [rows[name] for name in names if name in rows]
    if not ran:
        raise KeyError(names)
    return (max if most else min)(ran, key=lambda row: np.mean(row[by or metric]))[metric]


def claims_of(claims: Sequence[Claim], rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every claim's part of a record; one that needs rows or numbers that were not run is left out."""
    numbers = {row: {k: np.asarray(v, float) for k, v in facts["metrics"].items()} for row, facts in rows.items()}
    out = []
    for claim in claims:
        try:
            values = np.atleast_1d(np.asarray(claim.of(numbers), float))
        except KeyError:
            continue
        facts = {"claim": claim.text, "values": values.tolist(), "low": claim.low, "high": claim.high}
        out.append(facts | {"expected": claim.expected})
    return out


def claim_verdict(claim: Mapping[str, Any], low: float, estimate: float, high: float) -> str:
    """Return the verdict on an estimate with its interval (infinite ends: one seed); empty where nothing was asked."""
    least, most = float(claim["low"]), float(claim["high"])
    if math.isinf(least) and math.isinf(most):
        return ""
    if not math.isfinite(estimate):
        return "no finite value"
    met = least <= estimate <= most
    if not math.isfinite(high - low):
        return f"{'met' if met else 'missed'} (1 seed)"
    whole = (least <= low and high <= most) if met else (high < least or low > most)
    return ("met" if met else "missed") + ("" if whole else " in the mean")
