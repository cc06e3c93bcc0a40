"""Which items to recommend to a user, by a run on ratings."""

from typing import Any, NamedTuple

import numpy as np

from models.config import ConfigError
from models.metrics.known.ranking import best
from training.trained.values import check_whole


class Recommended(NamedTuple):
    """The first items of each user: ids (users, n) and scores (users, n), best first; "" and nan where none is left."""

    items: np.ndarray
    scores: np.ndarray


def recommended(run: Any, x: Any, n: int = 10) -> Recommended:
    """Return the n items of the highest score that a user has not chosen; score: the mean of p(x|z) at the mean code.

    x: choices (users, items), or (items,) of one user, whose answer has no leading axis. A user of no choice gets what
    the model thinks of someone unknown. Raises ConfigError for a run that is not on ratings, and for more than there
    are items.
    """
    if not run.facts.ratings:
        raise ConfigError(f"{run.facts.name} has no items to recommend: that takes a run on ratings (--kind ratings)")
    check_whole("n", n, 1)
    ids = np.array(run.facts.columns)
    if n > len(ids):
        raise ConfigError(f"n must be at most {len(ids)}, the number of items, got {n}")
    score = run.reconstruct(x)
    single, seen = score.ndim == 1, np.asarray(x).reshape(-1, len(ids)) > 0
    score = score.reshape(-1, len(ids))
    at = best(score, seen, n)
    left = np.take_along_axis(~seen, at, axis=1)
    items, scores = np.where(left, ids[at], ""), np.where(left, np.take_along_axis(score, at, axis=1), np.nan)
    return Recommended(items[0], scores[0]) if single else Recommended(items, scores)
