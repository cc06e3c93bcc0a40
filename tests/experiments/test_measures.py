"""What tables measure beside every run's metrics: against NumPy on small models."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import train
from experiments.running import group, measures
from experiments.running.gradients import GradientNoise, moments
from models import Autoencoder, Dense, Model
from models.batch import Batch
from training.examples import Examples

KEY = jax.random.key(0)
X = jnp.round(jax.random.uniform(KEY, (7, 5)))
EXAMPLES = Examples(X)


def build(**more):
    return Autoencoder(Model(encoder=Dense((4,), "tanh"), latent=2, **more), (5,), rngs=nnx.Rngs(0))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Seven examples are two batches, the second one short."""
    monkeypatch.setattr(measures, "BATCH", 4)


def test_means_are_over_all_examples():
    found = measures.means(train.Config(), EXAMPLES, KEY, lambda batch, key: {"x": batch.x, "one": batch.x[:, 0] ** 0})
    np.testing.assert_allclose(found["x"], X.mean(0), rtol=1e-12)
    assert found["one"] == 1


def test_estimators_agree_in_mean_and_differ_in_noise():
    """Score, leave-one-out and reparameterised gradients of the ELBO: the same mean within 5 s.e. of the noisier."""
    model, keys = build(), 2000
    found = {
        name: jax.jit(moments, static_argnums=(0, 4))(
            GradientNoise(name, 4, averaged=True).per_example, model, batch, KEY, keys
        )
        for batch in [Batch(X)]
        for name in ("score", "leave_one_out", "plain")
    }
    mean, _ = found["plain"]
    assert jnp.abs(mean).max() > 0.01
    for name in ("score", "leave_one_out"):
        gap, error = found[name][0] - mean, jnp.sqrt((found[name][1] + found["plain"][1]) / keys)
        np.testing.assert_array_less(jnp.abs(gap), 5 * error + 1e-12)
    noise = {name: float(variance.sum()) for name, (_, variance) in found.items()}
    assert noise["score"] > 2 * noise["leave_one_out"] > 2 * noise["plain"]


def test_noise_to_signal_of_a_gradient_is_that_of_its_draws():
    model = build()
    measure = GradientNoise("dreg", 2, batch=7, keys=50)
    found = jax.jit(lambda: measure(train.Config(), model, EXAMPLES, KEY))()
    k_own = jax.random.split(jax.random.fold_in(KEY, 1))[0]
    _, variance = moments(measure.per_example, model, Batch(X), k_own, 50)
    np.testing.assert_allclose(found["gradient_variance"], variance.sum(), rtol=1e-9)
    assert 0 < found["noise_to_signal"] < 50
    assert found["snr"] > 0


def test_few_labels_are_the_first_of_every_class_and_stand_as_often_as_asked():
    some = dataclasses.replace(EXAMPLES, label=jnp.asarray([0, 0, 1, 0, 1, 1, 2]), classes=3)
    kept = group.with_few_labels(some, 3, 4, False)
    np.testing.assert_array_equal(kept.label[:7], [0, -1, 1, -1, -1, -1, 2])
    np.testing.assert_array_equal(kept.label[7:], [0, 1, 2] * 3)
    np.testing.assert_array_equal(kept.x[7:10], X[jnp.asarray([0, 2, 6])])
    np.testing.assert_array_equal(group.with_few_labels(some, 3, 2, True).label, [0, 1, 2] * 2)
    with pytest.raises(ValueError, match="6 labels"):
        group.with_few_labels(some, 6, 1, False)
