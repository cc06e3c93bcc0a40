"""Samples beside data: closed forms, and sets whose answers are known."""

import numpy as np
import pytest
from flax import nnx

from models import Autoencoder, Dense, Model
from models.batch import Batch, Sizes
from models.metrics import Shown, Subject, measure
from models.metrics.samples import features_by, frechet, kernel_mmd, precision_and_recall

RNG = np.random.default_rng(0)


def test_frechet_is_the_closed_form_of_commuting_normals():
    """Equal covariances: the squared distance of the means. Diagonal ones: also Σ (s_a - s_b)²."""
    a = RNG.normal(size=(500, 4))
    assert frechet(a, a + 2) == pytest.approx(16, rel=1e-9)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(a, rowvar=False)), (a - a.mean(0)).T).T
    s, t = np.array([1.0, 2, 3, 4]), np.array([2.0, 2, 1, 7])
    assert frechet(white * s, white * t + 1) == pytest.approx(4 + ((s - t) ** 2).sum(), rel=1e-9)


def test_mmd_is_zero_on_average_and_that_of_the_kernel_for_two_points():
    same = [kernel_mmd(*RNG.normal(size=(2, 50, 3))) for _ in range(200)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 200**0.5
    a, b = np.zeros((5, 2)), np.full((5, 2), 2.0)  # k(a, a) = 1, k(b, b) = (8 / 2 + 1)³, k(a, b) = 1
    assert kernel_mmd(a, b) == pytest.approx(1 + 125 - 2)


def test_precision_and_recall_of_known_sets():
    x = RNG.normal(size=(200, 2))
    assert all(np.all(one) for one in precision_and_recall(x, x))
    far = precision_and_recall(x + 100, x)
    assert not far[0].any()
    assert not far[1].any()
    half = np.concatenate([x, x + 100])  # samples of one of two clusters: all good, half of the data not covered
    precise, covered = precision_and_recall(x, half)
    assert precise.all()
    np.testing.assert_array_equal(covered, np.arange(400) < 200)


def test_the_classifier_tells_what_can_be_told_and_samples_of_a_model_are_judged_by_it():
    y = np.arange(300) % 3
    x = np.clip(np.eye(3)[y].repeat(2, 1) * 0.8 + 0.1 + 0.05 * RNG.normal(size=(300, 6)), 0, 1)
    features, classes = features_by(x, y)
    assert features(x).shape == (300, 64)
    assert (classes(x).argmax(1) == y).mean() > 0.98
    model = Autoencoder(Model(encoder=Dense((4,)), latent=2), Sizes((6,)), rngs=nnx.Rngs(0))
    shown = Shown(Batch(x), y)
    found, reasons = measure(Subject(model, shown, shown), ["samples"])
    assert not reasons
    values = {name: m.value for name, m in found["samples"].items()}
    assert values["own_floor"] == pytest.approx(0, abs=1e-6)  # here the training examples are the test examples
    assert values["own_frechet"] > 1  # an untrained decoder draws none of the three
    assert values["recall"] < 0.5
    without = Subject(model, Shown(Batch(x)), Shown(Batch(x)))
    assert "labels" in measure(without, ["samples"])[1]["samples"]
