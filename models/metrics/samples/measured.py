"""What samples of a model are worth, by features of our own classifier."""

import jax
import numpy as np

from models.codes import prior_codes
from models.metrics.estimates import Measured, jackknife, share
from models.metrics.samples.classifier import features_by
from models.metrics.samples.distances import frechet, kernel_mmd, precision_and_recall
from models.metrics.subject import Subject

MOST = 2000  # samples, and real examples beside them


def samples(subject: Subject) -> dict[str, Measured]:
    """Return distances between decoded draws of the prior (their means) and as many test examples, at most 2,000.

    own_frechet, own_mmd: of the features of our own classifier (`classifier.py`), not those of Inception; own_floor:
    own_frechet of training examples in place of samples, what a perfect model of this size of sample would get.
    precision: share of samples within the examples' manifold; recall: the other way round. class_entropy: of the
    classes that the samples fall into, on average, and sample_entropy of a single sample's class (low: recognisable).
    """
    assert subject.train is not None
    n = min(MOST, subject.test.size, subject.train.size)
    features, classes = features_by(subject.train.batch.x, np.asarray(subject.train.labels))
    made = _drawn(subject, n)
    real = features(_some(subject.test.batch.x, n)).astype(np.float64)
    seen = features(_some(subject.train.batch.x, n)).astype(np.float64)
    ours, p = features(made).astype(np.float64), classes(made).astype(np.float64)
    inside, covered = precision_and_recall(ours, real)
    entropy = lambda q: -(q * np.log2(np.maximum(q, 1e-30))).sum(-1)
    both = lambda f: jackknife(lambda index: f(ours[index], real[index]), n, "squared features")
    single = entropy(p)
    return {
        "own_frechet": both(frechet),
        "own_floor": Measured(frechet(seen, real), "squared features", None),
        "own_mmd": both(kernel_mmd),
        "precision": share(inside),
        "recall": share(covered),
        "class_entropy": jackknife(lambda index: entropy(p[index].mean(0)), n, "bits"),
        "sample_entropy": Measured(float(single.mean()), "bits", float(single.std(ddof=1) / n**0.5)),
    }


def _some(x: np.ndarray, n: int) -> np.ndarray:
    return np.asarray(x)[np.random.default_rng(0).permutation(len(x))[:n]]


def _drawn(subject: Subject, n: int) -> np.ndarray:
    """Return n decoded draws; a model with labels, or a prior for each, takes them in turn."""
    model, key = subject.model, subject.key("samples")
    classes = model.classes or getattr(model.prior_module, "classes", 0)
    label = np.arange(n) % classes if classes else None

    def draw(model, key, label):  # type: ignore[no-untyped-def]
        codes = prior_codes(model, key, n, label)
        return model.decode(codes, None, label).mean

    return np.asarray(jax.jit(draw)(model, key, label))
