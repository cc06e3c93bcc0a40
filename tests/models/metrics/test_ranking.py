"""Ranks of hidden choices: against scikit-learn, by hand, and on average of chance."""

import numpy as np
import pytest

from models.metrics.known.ranking import ndcg, recall

RNG = np.random.default_rng(0)
SCORE = RNG.normal(size=(40, 30))
SEEN = RNG.random((40, 30)) < 0.2
HELD = (RNG.random((40, 30)) < 0.15) & ~SEEN
HELD[:, 0], SEEN[:, 0] = True, False


@pytest.mark.parametrize("count", [5, 100])
def test_ndcg_is_scikit_learns_on_the_items_not_seen(count):
    metrics = pytest.importorskip("sklearn.metrics")
    found = ndcg(SCORE, SEEN, HELD, count)
    for u in range(len(SCORE)):
        free = ~SEEN[u]
        other = metrics.ndcg_score(HELD[u][None, free].astype(float), SCORE[u][None, free], k=count)
        np.testing.assert_allclose(found[u], other, rtol=1e-12)


def test_recall_by_hand_of_what_could_be_there_and_of_chance():
    score = np.array([[5.0, 4, 3, 2, 1]])
    no = np.zeros((1, 5), bool)
    held = np.array([[False, True, False, True, True]])
    np.testing.assert_allclose(recall(score, no, held, 2), 1 / 2)  # one of the two that fit
    np.testing.assert_allclose(recall(score, np.array([[True, False, False, False, False]]), held, 2), 1 / 2)
    np.testing.assert_allclose(recall(score, np.array([[True, False, True, False, False]]), held, 2), 1)
    assert np.isnan(recall(score, no, no, 2)).all()
    assert np.isnan(ndcg(score, no, no, 2)).all()
    many = RNG.random((4000, 30))
    held = np.tile(np.arange(30) < 10, (4000, 1))
    np.testing.assert_allclose(recall(many, np.zeros_like(held), held, 6).mean(), 1 / 3, atol=0.01)
