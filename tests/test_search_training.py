"""The problem that sweeps search: a trial is the run alone, a structure compiles once, folds share nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import train
from experiments.search import training
from models import Dense, Model
from models.config import ConfigError
from training.examples import Examples

BASE = train.Config(model=Model(encoder=Dense(hidden=(8,)), latent=2), epochs=1, batch_size=256)


def test_rows_are_the_runs_alone_and_compile_once():
    configs = [dataclasses.replace(BASE, lr=lr, seed=seed) for lr in (1e-3, 1e-2) for seed in (0, 1)]
    before = training._one._cache_size()
    rows = list(training.run_group(configs, None))
    assert training._one._cache_size() == before + 1
    assert len({row["loss"] for row in rows}) == 4
    key, splits = jax.random.key(1), training.splits_of("digits", "none", 256, None)
    state, _ = jax.jit(train.train)(jax.tree.map(jnp.asarray, configs[3]), key, splits["train"])
    alone = train.evaluate(configs[3], state, splits["validation"], jax.random.fold_in(key, 1))
    np.testing.assert_allclose(rows[3]["negative_elbo_nats"], alone["negative_elbo_nats"], rtol=1e-6)
    assert rows[3]["loss"] == rows[3]["negative_elbo_nats"]
    assert {n.removeprefix("test_") for n in rows[3] if n.startswith("test_")} == set(alone)


def test_folds_hold_each_example_out_once_and_never_train_on_it():
    x = jnp.arange(103.0)[:, None]
    splits = {"train": Examples(x[:80]), "validation": Examples(x[80:]), "test": Examples(-x)}
    folds = [training.fold_splits(splits, (i, 5), 10) for i in range(5)]
    held = np.concatenate([f["validation"].x[:, 0] for f in folds])
    assert len(held) == len(set(held.tolist())) == 100
    for fold in folds:
        assert set(fold) == {"train", "validation"}
        assert len(fold["train"]) == 80
        assert not set(fold["train"].x[:, 0].tolist()) & set(fold["validation"].x[:, 0].tolist())
        assert float(fold["train"].x.min()) >= 0  # no test example
    with pytest.raises(ConfigError, match="50 folds of 103 examples leave too few"):
        training.fold_splits(splits, (0, 50), 101)


def test_divergence_is_a_reason_and_unfit_settings_are_refused():
    row = training.row({"mse": np.nan, "bad_step": 7})
    assert row["reason"] == "a loss or gradient was not finite at step 7"
    for field, value in (("patience", 3), ("read", "stream")):
        with pytest.raises(ConfigError, match=f"{field} must be .* in a sweep"):
            list(training.run_group([dataclasses.replace(BASE, **{field: value})], None))
