"""How a dictionary lies beside the features that examples are sums of: known directions and known coefficients.

columns (latent, values), one a row, and directions (features, values): both are compared by the cosine of their angle.
codes (n, latent) and coefficients (n, features) are of the same examples; a unit or a feature is on where it is not 0.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Columns = Float[np.ndarray, "latent values"]
Directions = Float[np.ndarray, "features values"]
Codes = Float[np.ndarray, "n latent"]
Coefficients = Float[np.ndarray, "n features"]

SHARED = 0.1  # cosine from which a column is said to hold a direction that is not its own


class Matching(NamedTuple):
    """The best one-to-one assignment: unit[i] stands for feature[i], with that cosine; (min(latent, features),)."""

    unit: Int[np.ndarray, " pairs"]
    feature: Int[np.ndarray, " pairs"]
    cosine: Float[np.ndarray, " pairs"]


def cosines(columns: Columns, directions: Directions) -> Float[np.ndarray, "latent features"]:
    """Return the cosines between columns and directions; 0 for a column of zeros."""
    unit = lambda rows: rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(float).tiny)
    return unit(np.asarray(columns, float)) @ unit(np.asarray(directions, float)).T


def matching(columns: Columns, directions: Directions) -> Matching:
    """Return the assignment of the largest sum of cosines (Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    found = cosines(columns, directions)
    unit, feature = linear_sum_assignment(found, maximize=True)
    return Matching(unit, feature, found[unit, feature])


def mean_cosine(columns: Columns, directions: Directions) -> float:
    """Return MCC: the mean over features of the cosine with the unit assigned to it, 0 for a feature without one.

    Sharkey et al. 2022 (Taking features out of superposition); Chanin et al. 2026 (SynthSAEBench), section 3. 1 where
    every direction is a column, whatever the order of the columns and however many more there are.
    """
    return float(matching(columns, directions).cosine.sum() / len(directions))


def uniqueness(columns: Columns, directions: Directions, alive: Bool[np.ndarray, " latent"] | None = None) -> float:
    """Return how many features are the nearest one of some unit, over the number of units: 1 where no two share one.

    alive: the units that count (None: all). 0 where none does.
    """
    nearest = cosines(columns, directions).argmax(1)
    nearest = nearest if alive is None else nearest[alive]
    return len(np.unique(nearest)) / len(nearest) if len(nearest) else 0.0


class Detection(NamedTuple):
    """Means over features of how well the assigned unit tells whether the feature is on."""

    f1: float
    precision: float
    recall: float


def detection(codes: Codes, coefficients: Coefficients, pairs: Matching) -> Detection:
    """Return F1 = 2 hits / (units on + features on), precision and recall of every feature's unit, in the mean.

    A unit that is never on has precision 0; features that are never on are left out.
    """
    on, truth = np.asarray(codes)[:, pairs.unit] != 0, np.asarray(coefficients)[:, pairs.feature] != 0
    seen = truth.any(0)
    on, truth = on[:, seen], truth[:, seen]
    hits, said, there = (on & truth).sum(0), on.sum(0), truth.sum(0)
    return Detection(
        float(np.mean(2 * hits / (said + there))),
        float(np.mean(hits / np.maximum(said, 1))),
        float(np.mean(hits / there)),
    )


def absorption(
    columns: Columns,
    directions: Directions,
    codes: Codes,
    coefficients: Coefficients,
    parent: Int[np.ndarray, " features"],
) -> float:
    """Return how often a child's unit speaks for the parent, which is silent: a share of the examples with both on.

    parent: (features,) the position of each feature's parent, -1 where it has none; a parent is on wherever a child is.
    A case counts where the parent's unit is off, the child's is on, and the child's column holds the parent's direction
    by a cosine of at least 0.1 above that of the two directions themselves. Mean over children. After Chanin et al.
    2024 (A is for absorption), with the features known in place of probes.
    """
    pairs = matching(columns, directions)
    unit_of = np.full(len(directions), -1)
    unit_of[pairs.feature] = pairs.unit
    found, own = cosines(columns, directions), cosines(directions, directions)
    on, truth, rates = np.asarray(codes) != 0, np.asarray(coefficients) != 0, []
    for child in np.flatnonzero(np.asarray(parent) >= 0):
        above = int(parent[child])
        both = truth[:, child] & truth[:, above]
        if not both.any():
            continue
        mine, its = unit_of[child], unit_of[above]
        holds = mine >= 0 and found[mine, above] >= own[child, above] + SHARED
        silent = np.ones(both.sum(), bool) if its < 0 else ~on[both, its]
        rates.append(float(np.mean(silent & on[both, mine])) if holds else 0.0)
    return float(np.mean(rates)) if rates else 0.0


def explained_variance(x: Float[np.ndarray, "n values"], mean: Float[np.ndarray, "n values"]) -> float:
    """Return 1 - Σ |x - mean|² / Σ |x - E x|²: 1 for a perfect reconstruction, 0 for answering with the average."""
    return float(1 - np.square(x - mean).sum() / np.square(x - x.mean(0, keepdims=True)).sum())


def in_use(codes: Codes) -> tuple[float, float]:
    """Return L0, the mean number of units that are on, and the share of units that are dead: on in no example."""
    on = np.asarray(codes) != 0
    return float(on.sum(1).mean()), float(1 - on.any(0).mean())
