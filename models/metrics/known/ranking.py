"""What a list of recommended items is worth, beside the items that a person did choose.

score: (users, items), higher is better. seen: those that the scores were made from, which are not recommended again.
held: those that were hidden. Each returns (users,); nan for a user of whom nothing is hidden. Liang et al. 2018, 4.2.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

Users = Float[np.ndarray, " users"]


def best(score: Float[np.ndarray, "u i"], seen: Bool[np.ndarray, "u i"], count: int) -> Int[np.ndarray, "u count"]:
    """Return the items of the `count` highest scores of each user that were not seen, in order; ties by number."""
    return np.argsort(np.where(seen, np.inf, -np.asarray(score, np.float64)), axis=1, kind="stable")[:, :count]


def recall(score: np.ndarray, seen: np.ndarray, held: np.ndarray, count: int) -> Users:
    """Return the share of hidden items among the first `count`, of as many as could be there: min(count, hidden)."""
    found = np.take_along_axis(held, best(score, seen, count), axis=1).sum(1)
    return _over(found.astype(float), np.minimum(held.sum(1), count))


def ndcg(score: np.ndarray, seen: np.ndarray, held: np.ndarray, count: int) -> Users:
    """Return Σ 1 / log2(place + 1) over hidden items among the first `count`, over that of the best possible list."""
    places = 1 / np.log2(np.arange(2, count + 2))
    hit = np.take_along_axis(held, best(score, seen, count), axis=1)
    ideal = np.concatenate([[0], np.cumsum(places)])[np.minimum(held.sum(1), count)]
    return _over(hit @ places[: hit.shape[1]], ideal)


def _over(value: np.ndarray, most: np.ndarray) -> np.ndarray:
    return np.where(most > 0, value / np.where(most > 0, most, 1), np.nan)
