"""Groups of runs: a row is the run alone by any plan, one structure is one program, failures stay in their row."""

import dataclasses
import json
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import train
from experiments.running import group
from models import Dense, Model, posteriors
from models.objectives import ELBO, Reconstruction
from training.examples import Examples

from ..conftest import ROOT

RNG = np.random.default_rng(0)
SPLITS = {
    part: Examples(jnp.asarray(RNG.integers(0, 17, (n, 3, 3, 1), dtype=np.uint8)), (0.0, 16.0))
    for part, n in (("train", 50), ("validation", 20), ("test", 21))
}
BASE = train.Config(model=Model(encoder=Dense(hidden=(6,)), latent=2), epochs=2, batch_size=16, lr=1e-2)
ROWS = [
    dataclasses.replace(BASE, lr=lr, seed=seed, objective=ELBO(beta=beta))
    for lr, seed, beta in ((1e-3, 0, 1.0), (1e-2, 7, 4.0), (3e-2, 2**32 - 1, 0.5))
]
POINT = dataclasses.replace(
    BASE,
    model=dataclasses.replace(BASE.model, posterior=posteriors.PointPosterior()),
    objective=Reconstruction(),
    lr=0.3,
)


def results(configs, plan="sequential", splits=SPLITS):
    """The results of configs of one structure, in order."""
    out = [None] * len(configs)
    for take, found, seconds in group.run_with(group.plans()[plan], configs, splits):
        for row, i in enumerate(take):
            out[i] = group.result(jax.tree.map(lambda a, row=row: a[row], found), seconds)
    return out


@pytest.fixture(scope="module")
def alone():
    """Test metrics and history of each row by the training core itself."""
    fit = jax.jit(train.train)
    measure = jax.jit(train.evaluate)
    out = []
    for config in ROWS:
        key = jax.random.key(config.seed)
        done = fit(config, key, {"train": SPLITS["train"]})
        out.append((measure(config, done.state, SPLITS["test"], jax.random.fold_in(key, 2)), done.history["train"]))
    return out


@pytest.mark.parametrize("plan", ["sequential", "map", "vmap"])
def test_a_row_of_a_group_is_the_run_alone(plan, alone):
    for found, (test, history) in zip(results(ROWS, plan), alone, strict=True):
        for name, value in test.items():
            np.testing.assert_allclose(found["test"][name], value, rtol=1e-9)
        for name, values in history.items():
            np.testing.assert_allclose(found["history"]["train"][name], values, rtol=1e-9)


def test_one_structure_compiles_once():
    rows = [
        dataclasses.replace(BASE, lr=1e-3 * (i + 1), seed=s, objective=ELBO(beta=1.0 + j))
        for i in range(4)
        for j in range(4)
        for s in range(3)
    ]
    assert group.grouped(rows) == [list(range(48))]
    results([BASE])
    before = group.compilations()
    assert before > 0
    assert len({row["test"]["mse"] for row in results(rows)}) == 48
    assert group.compilations() == before


def test_a_structure_of_its_own_makes_a_group():
    wide = dataclasses.replace(BASE, model=Model(encoder=Dense(hidden=(7,)), latent=2))
    assert group.grouped([BASE, wide, ROWS[1]]) == [[0, 2], [1]]
    with pytest.raises(ValueError, match="differ in structure"):
        next(group.iterate_group([BASE, wide]))


def test_leaves_are_stacked_with_fixed_types():
    stacked = group.stack([BASE, dataclasses.replace(BASE, lr=2.0, seed=2**32 - 1)])
    assert stacked.lr.dtype == jnp.result_type(float)
    assert stacked.seed.dtype == np.uint32
    assert stacked.seed[1] == 2**32 - 1


def test_a_diverging_row_is_flagged_and_leaves_the_others_alone():
    bad = dataclasses.replace(ROWS[1], lr=1e300)
    good, lost, _ = results([ROWS[0], bad, ROWS[2]], "vmap")
    assert good["diverged"] is None
    assert good["test"] == results(ROWS, "vmap")[0]["test"]
    assert lost["diverged"]["step"] > 0
    assert lost["diverged"]["term"] in ("nll", "kl", "negative_elbo")


def test_early_stopping_tests_the_best_epoch_and_seen_examples_are_measured_alike():
    same = Examples(SPLITS["train"].x[:20], SPLITS["train"].range)
    splits = group.limited({"train": SPLITS["train"], "validation": same, "test": same}, 32, seen=True)
    assert len(splits["train"]) == 32
    (found,) = results([dataclasses.replace(POINT, epochs=60, patience=3)], splits=splits)
    assert found["epochs"] == found["best_epoch"] + 3 < 60
    validation = found["history"]["validation"]["mse"]
    assert len(validation) == found["epochs"]
    assert np.argmin(validation) == found["best_epoch"] - 1
    assert validation[-1] > 1.001 * min(validation)
    for part in ("test", "seen"):
        assert found[part]["mse"] == pytest.approx(min(validation), rel=1e-9)


def test_active_units_are_counted_from_the_posterior_means():
    state = train.init(BASE, jax.random.key(0), SPLITS["train"])
    x = SPLITS["test"].take(jnp.arange(21))
    found = train.evaluate(BASE, state, SPLITS["test"], jax.random.key(1))["active_units"]
    assert found == np.sum(np.var(state.model.encode(x).mean, axis=0) > 0.01)
    assert 0 < found


def test_devices_share_the_rows():
    code = """
        import dataclasses, json, os
        from experiments.command import use_all_cores
        use_all_cores()
        import jax
        jax.config.update("jax_enable_x64", True)
        from tests.experiments.test_group import ROWS, results
        from experiments.running import group
        assert len(jax.devices()) == 3, jax.devices()
        assert next(iter(group.plans())) == "rows"
        print(json.dumps([row["test"] for row in results([*ROWS, ROWS[1]], "rows")]))  # four rows, three devices
    """
    flags = "--xla_force_host_platform_device_count=3 --xla_backend_optimization_level=0"
    env = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    out = subprocess.run(command, check=True, cwd=ROOT, env=env, timeout=300, stdout=subprocess.PIPE).stdout
    for found, here in zip(json.loads(out), results([*ROWS, ROWS[1]]), strict=True):
        assert found == pytest.approx(here["test"], rel=1e-9)


def test_a_large_group_runs_by_the_measured_plan(monkeypatch):
    asked = []

    def measured(question, signature, candidates):
        asked.append(list(candidates))
        return "map", {}

    monkeypatch.setattr(group, "measured_choice", measured)
    assert group.choose(ROWS, SPLITS) == next(iter(group.plans()))  # too small to be worth measuring
    assert group.choose(ROWS[:1], SPLITS) == "sequential"
    assert asked == []
    monkeypatch.setattr(group, "SMALL", 0)
    assert group.choose(ROWS, SPLITS) == "map"
    assert set(asked[0]) == {"sequential", "map", "vmap"}
