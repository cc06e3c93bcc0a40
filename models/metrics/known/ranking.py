"""What a list of recommended items is worth, beside the items that a person did choose.

score: (users, items), higher is better. seen: those that the scores were made from, which are not recommended again.
held: those that were hidden. Each returns (users,); nan for a user of whom nothing is hidden. Liang et al. 2018, 4.2.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from models.batch import Batch
from models.metrics.estimates import Measured, mean_of
from models.metrics.subject import Subject, in_chunks

HIDDEN = 0.2
"""share of a user's choices that is hidden, as published; one at least"""
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


def folded(x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return what is given of users' choices (0 where hidden), and what is hidden: a fifth of each one's, (u, i)."""
    order = np.argsort(np.argsort(np.where(x > 0, rng.random(x.shape), 2.0), axis=1), axis=1)
    many = np.maximum(1, np.round(HIDDEN * (x > 0).sum(1, keepdims=True)))
    hidden = (order < many) & (x > 0)
    return np.where(hidden, 0, x).astype(x.dtype), hidden


def ranked(subject: Subject) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, seen and held of the subject's users, a fifth of each one's choices hidden from the encoder.

    score: the mean of p(x|z) at the code of what is left. Users of one choice are left out: nothing would be given.
    """
    x = np.asarray(subject.test.batch.x)
    some = (x > 0).sum(1) > 1
    given, held = folded(x[some], np.random.default_rng([subject.seed, 20]))
    score = in_chunks(
        lambda m, b, k: m.decode(m.encode(m.sees(b)).mean).mean, subject.model, Batch(given), subject.key("ranked")
    )
    return np.asarray(score), given > 0, held


def ndcg_of(subject: Subject) -> dict[str, Measured]:
    """Return NDCG@100, the mean over users."""
    return {"ndcg_100": mean_of(ndcg(*ranked(subject), 100), "share of the best")}


def recall_of(subject: Subject) -> dict[str, Measured]:
    """Return recall@20 and recall@50, means over users."""
    found = ranked(subject)
    return {f"recall_{n}": mean_of(recall(*found, n), "share") for n in (20, 50)}


def _over(value: np.ndarray, most: np.ndarray) -> np.ndarray:
    return np.where(most > 0, value / np.where(most > 0, most, 1), np.nan)
