"""Representation metrics on codes whose answers are known: perfect, turned, empty."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Autoencoder, Batch, Dense, Model
from models.config import ConfigError
from models.metrics import Shown, Subject, probes, registry
from models.metrics.known import factors

SIZES = (3, 4, 5)
GRID = np.indices(SIZES).reshape(3, -1).T  # every combination once: factors are exactly independent
MANY = np.tile(GRID, (4, 1))
PERFECT = MANY * [2.0, -1.0, 3.0] + [1.0, 0.0, -5.0]  # one unit a factor, in units of its own


def test_a_perfect_code_has_mig_1():
    assert factors.mutual_information_gap(PERFECT, MANY) == pytest.approx(1, abs=1e-12)
    with_idle = np.c_[PERFECT, np.zeros(len(MANY))]
    assert factors.mutual_information_gap(with_idle, MANY) == pytest.approx(1, abs=1e-12)
    assert factors.modularity(with_idle, MANY) == pytest.approx(1, abs=1e-12)


def test_each_factor_twice_is_modular_without_a_gap():
    twice = np.c_[PERFECT, -PERFECT]
    assert factors.mutual_information_gap(twice, MANY) == pytest.approx(0, abs=1e-12)
    assert factors.separated_predictability(twice, MANY) == pytest.approx(0, abs=1e-12)
    assert factors.modularity(twice, MANY) == pytest.approx(1, abs=1e-12)
    disentangled, complete, informative = factors.dci(twice, MANY)
    assert disentangled > 0.95
    assert complete == pytest.approx(1 - np.log(2) / np.log(6), abs=0.1)  # spread over two units of six
    assert informative == 1


def test_one_unit_of_two_factors():
    """z = 5 v_1 + v_2 tells both: I = H(v_1), H(v_2); a second unit, idle, tells none."""
    pair = GRID[:, :2]
    code = np.c_[5.0 * pair[:, 0] + pair[:, 1], np.zeros(len(pair))]
    found, entropies = factors.information_matrix(code, pair)
    np.testing.assert_allclose(found[0], np.log([3, 4]), rtol=1e-12)
    np.testing.assert_allclose(entropies, np.log([3, 4]), rtol=1e-12)
    shared = np.log(3) ** 2 / np.log(4) ** 2
    assert factors.modularity(code, pair) == pytest.approx(1 - shared)
    assert factors.mutual_information_gap(code, pair) == pytest.approx(1)


def test_sap_of_a_perfect_code_is_one_minus_chance():
    assert factors.separated_predictability(PERFECT, MANY) == pytest.approx(np.mean([1 - 1 / k for k in SIZES]))


def test_factor_vae_and_dci_of_perfect_and_turned_codes():
    assert factors.factor_vae_votes(PERFECT, MANY, votes=60).all()
    turn = np.array([[0.5**0.5, 0.5**0.5, 0], [-(0.5**0.5), 0.5**0.5, 0], [0, 0, 1]])  # two units share two factors
    turned = (PERFECT - PERFECT.mean(0)) / PERFECT.std(0) @ turn
    assert 0.4 < factors.factor_vae_votes(turned, MANY, votes=200).mean() < 0.9
    disentangled, complete, informative = factors.dci(PERFECT, MANY)
    assert min(disentangled, complete, informative) > 0.95
    assert factors.dci(turned, MANY)[0] < 0.8
    with pytest.raises(ConfigError, match="no unit of the code varies"):
        factors.factor_vae_votes(np.zeros((8, 2)), MANY[:8])


def test_areas_are_those_of_scikit_learn():
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 12, 200).astype(float), rng.random(200) < 0.3  # many ties
    assert probes.auroc(score, positive) == pytest.approx(roc_auc_score(positive, score), rel=1e-12)
    assert probes.auprc(score, positive) == pytest.approx(average_precision_score(positive, score), rel=1e-12)
    assert probes.auroc(positive.astype(float), positive) == 1


def test_the_list_measures_them_on_mean_codes():
    """A linear encoder that copies its input: the code is perfect, and its labels are read from it."""
    cfg = Model(encoder=Dense(hidden=()), latent=3)
    model = Autoencoder(cfg, (3,), rngs=nnx.Rngs(0))
    model.encoder.head.kernel[...], model.encoder.head.bias[...] = jnp.eye(3, 6), jnp.zeros(6)
    x, y = PERFECT / 10, (MANY[:, 0] > 0).astype(np.int32)
    subject = Subject(model, Shown(Batch(x), y, MANY), Shown(Batch(x), y))
    names = ["mig", "sap", "modularity", "factor_vae", "dci", "probes", "detection"]
    found, why = registry.measure(subject, names)
    assert not why
    assert found["mig"]["mig"].value == pytest.approx(1)
    assert found["mig"]["mig"].error < 0.1
    assert found["probes"]["linear_probe"].value == 1
    assert found["probes"]["majority_accuracy"].value == pytest.approx(2 / 3)
    assert 0 < found["detection"]["auroc"].error < 0.2
    without = Subject(model, Shown(Batch(x), np.arange(len(x)) % 3))
    assert set(registry.measure(without, names)[1]) == set(names)
    few = lambda index, v: Subject(model, Shown(Batch(x[index]), y[index], v[index]), Shown(Batch(x), np.zeros(len(x))))
    says = lambda index, v=MANY, names=names: registry.measure(few(np.arange(len(x))[index], v), names)[1]
    still = says(slice(0, 9), np.zeros_like(MANY))
    assert all("no factor varies" in still[name] for name in names[:5])
    assert "same label" in still["probes"]
    one = says(slice(0, 60), MANY * [0, 0, 1], ("mig", "modularity", "factor_vae"))
    assert set(one) == {"modularity", "factor_vae"}
    assert "two examples" in says(slice(0, 8, 7), MANY, ("dci",))["dci"]
    model.encoder.head.kernel[...] = jnp.zeros((3, 6))
    assert set(says(slice(0, 60), MANY, ("modularity", "factor_vae", "dci"))) == {"modularity", "factor_vae", "dci"}
