"""Ranks of hidden choices: against scikit-learn, by hand, and on average of chance."""

import numpy as np
import pytest
from flax import nnx

from models import Autoencoder, Batch, Model
from models.likelihoods import MultinomialLikelihood
from models.metrics import Shown, Subject, registry
from models.metrics.known.ranking import folded, ndcg, recall
from models.networks import Bag

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


CHOICES = (RNG.random((300, 12)) < 0.4).astype(np.float32)
CHOICES[0], CHOICES[1:3, 0] = 0, 1
CHOICES[1, 1:] = 0  # a user of one choice


def test_a_fifth_of_each_user_s_choices_is_hidden_and_nothing_else_is_changed():
    given, held = folded(CHOICES, np.random.default_rng(0))
    np.testing.assert_array_equal(given + held, CHOICES)
    many = CHOICES.sum(1)
    np.testing.assert_array_equal(held.sum(1), np.where(many > 0, np.maximum(1, np.round(0.2 * many)), 0))
    assert (held.sum(0) > 0).all()


def test_metrics_by_name_do_not_look_at_what_is_hidden():
    """A model that is asked to rank its own input: hidden items are at chance, where those given would be first."""
    cfg = Model(encoder=Bag((8,)), latent=4, likelihood=MultinomialLikelihood())
    model = Autoencoder(cfg, (12,), rngs=nnx.Rngs(0))
    found, why = registry.measure(Subject(model, Shown(Batch(CHOICES)), ratings=True), ["ndcg", "recall"])
    assert not why
    assert set(found["recall"]) == {"recall_20", "recall_50"}
    assert found["recall"]["recall_20"].value == 1  # there are 12 items
    assert 0.2 < found["ndcg"]["ndcg_100"].value < 0.9
    assert 0 < found["ndcg"]["ndcg_100"].error < 0.05
    reasons = [
        registry.measure(Subject(model, Shown(Batch(x)), ratings=r), ["ndcg"])[1]["ndcg"]
        for x, r in ((CHOICES, False), (CHOICES[:2], True))
    ]
    assert ["the data are no ratings" in reasons[0], "no user has two choices" in reasons[1]] == [True, True]
