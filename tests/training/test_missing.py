"""A table with missing values, from the csv to the loaded run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import train
from models import ConfigError, Dense, Model
from models.likelihoods import AutoLikelihood
from training.evaluate import training_mean
from training.inputs.read import load_inputs
from training.trained.facts import Facts
from training.trained.run import LoadedRun

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(80, 1))
FULL = np.concatenate([Z, 2 * Z + 1, -Z], axis=1)
HOLED = np.where(RNG.random(FULL.shape) < 0.25, np.nan, FULL)
HOLED[np.isnan(HOLED).all(1), 0] = 0.0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on the table, trained in memory; and what it read."""
    path = tmp_path_factory.mktemp("holes") / "a.csv"
    field = lambda v: "NA" if np.isnan(v) else repr(float(v))
    path.write_text("a,b,c\n" + "\n".join(",".join(map(field, row)) for row in HOLED))
    model = Model(encoder=Dense((16,), "tanh"), latent=1, likelihood=AutoLikelihood())
    asked = train.Config(dataset=f"file:{path}", model=model, epochs=150, batch_size=16, lr=1e-2)
    inputs = load_inputs(asked, None)
    made = jax.jit(lambda splits: train.train(inputs.config, jax.random.key(0), splits).state)(dict(inputs.splits))
    data = inputs.dataset
    facts = Facts(data.name, data.shape, 64, *map(float, data.range), False, data.scale, data.columns, 0, data.record())
    return LoadedRun(path, inputs.config, facts, made.model, "last"), inputs


def test_missing_values_are_masked_and_marked_by_default(run):
    loaded, inputs = run
    assert "missing values marked to the encoder (auto)" in inputs.line
    assert "are missing: a (" in inputs.line
    assert loaded.model.marks
    part = inputs.splits["train"]
    raw = inputs.dataset.splits["train"].x
    np.testing.assert_array_equal(part.mask, ~np.isnan(raw))
    np.testing.assert_array_equal(np.asarray(part.x)[np.isnan(raw)], 0)
    mean = training_mean(part, "none")
    np.testing.assert_allclose(mean, np.nanmean(inputs.dataset.scale.apply(raw), 0), atol=1e-6)
    assert jnp.isfinite(mean).all()


def test_a_loaded_run_fills_in_what_is_missing_and_scores_what_is_there(run):
    """The missing columns of a line follow from the others; what the score says is said of observed values alone."""
    loaded, _ = run
    missing = np.isnan(HOLED)
    error = lambda filled: np.sqrt(np.mean(np.square((filled - FULL) / FULL.std(0))[missing]))
    assert error(loaded.reconstruct(HOLED)) < 0.5 * error(np.broadcast_to(np.nanmean(HOLED, 0), FULL.shape))
    given = np.array([[1.0, np.nan, np.nan], [np.nan, -1.0, np.nan]])
    filled = loaded.reconstruct(given)
    kept = loaded.impute(given)
    np.testing.assert_array_equal(kept, np.where(np.isnan(given), filled, given))
    np.testing.assert_allclose(loaded.impute(given[0]), kept[0], rtol=1e-12)
    np.testing.assert_array_equal(loaded.impute(FULL), FULL)
    scaled = loaded.facts.scale.apply(given)
    gap = np.square(loaded.facts.scale.apply(filled) - scaled)
    np.testing.assert_allclose(loaded.score(given)["mse"], np.nanmean(gap, 1), rtol=1e-4)
    with pytest.raises(ConfigError, match="example 1: every value is missing"):
        loaded.encode(np.array([[1.0, 2.0, 3.0], [np.nan] * 3]))
    with pytest.raises(ConfigError, match="1 of 3 values are not finite"):
        loaded.encode(np.array([1.0, np.nan, np.inf]))
    with pytest.raises(ConfigError, match="compression keeps every value, 4 of 6 are missing"):
        loaded.compress(given)
