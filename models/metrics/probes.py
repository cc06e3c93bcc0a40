"""What a simple reader makes of a code, and how well a score tells two classes apart."""

from typing import Any

import numpy as np
from jaxtyping import Float

from models.metrics.basic import per_example
from models.metrics.estimates import Measured, jackknife, share
from models.metrics.subject import Subject

NEIGHBOURS = 5


def probes(subject: Subject) -> dict[str, Measured]:
    """Return the accuracy of labels read from mean codes by two readers that saw the training examples' codes.

    linear_probe: logistic regression on standardised codes, ridge 1 (scikit-learn). knn_probe: the majority of the 5
    nearest codes. Beside them majority_accuracy, of answering with the commonest label of the training examples.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    assert subject.train is not None
    seen, new = subject.codes_of(subject.train).astype(np.float64), subject.codes.astype(np.float64)
    y, truth = np.asarray(subject.train.labels), np.asarray(subject.test.labels)
    mean, std = seen.mean(0), seen.std(0)
    scale = lambda z: (z - mean) / np.where(std > 0, std, 1)
    linear = LogisticRegression(max_iter=5000).fit(scale(seen), y)
    near = KNeighborsClassifier(min(NEIGHBOURS, len(seen))).fit(seen, y)
    values, counts = np.unique(y, return_counts=True)
    return {
        "linear_probe": share(linear.predict(scale(new)) == truth, "accuracy"),
        "knn_probe": share(near.predict(new) == truth, "accuracy"),
        "majority_accuracy": share(truth == values[counts.argmax()], "accuracy"),
    }


def auroc(score: Float[np.ndarray, " n"], positive: Any) -> float:
    """Return P(score of a positive > score of a negative) + P(equal) / 2, from average ranks (Mann & Whitney 1947)."""
    positive = np.asarray(positive, bool)
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - 0.5 * (counts - 1))[place]
    p, n = int(positive.sum()), int((~positive).sum())
    return float((rank[positive].sum() - p * (p + 1) / 2) / (p * n))


def auprc(score: Float[np.ndarray, " n"], positive: Any) -> float:
    """Return the average precision Σ (R_i - R_i-1) P_i over falling thresholds; equal scores are one threshold."""
    positive = np.asarray(positive, bool)
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(positive[order])
    last = np.append(np.diff(score[order]) != 0, True)  # the end of every run of equal scores
    recall, precision = hits[last] / hits[-1], (hits / np.arange(1, len(score) + 1))[last]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def detection(subject: Subject) -> dict[str, Measured]:
    """Return how well the loss of an example tells the class labelled 1 from that labelled 0.

    The score is the negative ELBO, or -log p(x|z) of a point. auroc: area under the curve of true against false
    positives, ½ for chance; auprc: average precision, the positives' share for chance.
    """
    rows = subject.each(per_example, "detection")
    names = ("negative_elbo_nats", "penalised_cross_entropy_nats", "nll_nats", "cross_entropy_nats")
    score = np.asarray(next(rows[name] for name in names if name in rows), np.float64)
    positive = np.asarray(subject.test.labels) == 1
    both = lambda f: jackknife(_in_both(f, score, positive), len(score), "area")
    return {"auroc": both(auroc), "auprc": both(auprc)}


def _in_both(f: Any, score: np.ndarray, positive: np.ndarray) -> Any:
    """Return f of the examples at an index; nan where only one class is left."""
    one = lambda index: positive[index].all() or not positive[index].any()
    return lambda index: float("nan") if one(index) else f(score[index], positive[index])
