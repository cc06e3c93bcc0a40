"""The problem that sweeps search: a trial is the run alone, a structure compiles once, folds share nothing."""

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import train
from experiments.running import group
from experiments.search import training
from experiments.search.__main__ import main
from experiments.search.options import parse
from models import Dense, Model, posteriors
from models.config import ConfigError, to_dict
from models.objectives import Reconstruction
from training.cli.options import Command
from training.examples import Examples
from training.store.trial import encode, trial_config

ROOT = Path(__file__).resolve().parents[2]
BASE = train.Config(model=Model(encoder=Dense(hidden=(8,)), latent=2), epochs=2, batch_size=256)
POINT = dataclasses.replace(
    BASE,
    model=dataclasses.replace(BASE.model, posterior=posteriors.PointPosterior()),
    objective=Reconstruction(),
    lr=0.3,
    epochs=30,
    patience=1,
)


def trials(configs, fold=None, width=8):
    return list(training.run_group(configs, fold, width))


def fitted(config, folder):
    """The summary of the same run by command line."""
    command = Command(config=config, run_dir=str(folder), figures=False, dispatch="loop")
    return train.fit(command)[1]


def check(trial, summary):
    """A trial's metrics are those of the run alone: validation of its last epoch, and test."""
    assert summary["test"]
    for name, value in summary["last"]["validation"].items():
        np.testing.assert_allclose(trial[name], value, rtol=1e-9)
    for name, value in summary["test"].items():
        np.testing.assert_allclose(trial[f"test_{name}"], value, rtol=1e-9)


def test_a_trial_is_the_run_alone_and_a_structure_compiles_once(tmp_path):
    configs = [dataclasses.replace(BASE, lr=lr, seed=seed) for lr in (1e-3, 1e-2) for seed in (0, 1)]
    before = group.compilations()
    found = trials(configs)
    assert group.compilations() == before + 1
    assert trials(configs[2:3]) == found[2:3]  # to the bit, in any group
    assert len({row["loss"] for row in found}) == 4
    check(found[3], fitted(configs[3], tmp_path / "run"))
    assert found[3]["loss"] == found[3]["penalised_cross_entropy_nats"]
    ((_, table),) = group.iterate_group([configs[3]], plan="sequential")
    assert table["test"] == {n.removeprefix("test_"): v for n, v in found[3].items() if n.startswith("test_")}
    assert table["history"]["validation"]["mse"][-1] == found[3]["mse"]
    assert "test_active_units" in found[3]


def test_early_stopping_scores_the_epoch_that_is_tested():
    (found,) = trials([POINT])
    assert found["epochs_run"] == found["best_epoch"] + 1 < 30
    ((_, table),) = group.iterate_group([POINT], plan="sequential")
    assert {f"test_{n}": v for n, v in table["test"].items()}.items() <= found.items()
    assert found["loss"] == min(table["history"]["validation"]["mse"]) < table["history"]["validation"]["mse"][-1]


def test_folds_hold_each_example_out_once_and_never_train_on_it():
    x = jnp.arange(103.0)[:, None]
    splits = {"train": Examples(x[:80]), "validation": Examples(x[80:]), "test": Examples(-x)}
    folds = [training.fold_splits(splits, (i, 5), 10) for i in range(5)]
    held = np.concatenate([f["validation"].x[:, 0] for f in folds])
    assert len(held) == len(set(held.tolist())) == 100
    for fold in folds:
        assert fold["test"] is splits["test"]
        assert len(fold["train"]) == 80
        assert not set(fold["train"].x[:, 0].tolist()) & set(fold["validation"].x[:, 0].tolist())
        assert float(fold["train"].x.min()) >= 0  # no test example
        assert float(fold["validation"].x.min()) >= 0
    with pytest.raises(ConfigError, match="50 folds of 103 examples leave too few"):
        training.fold_splits(splits, (0, 50), 101)


def test_folds_share_a_program_and_differ_in_their_scores():
    before = group.compilations()
    scores = [trials([POINT], (i, 3))[0] for i in range(3)]
    assert group.compilations() == before + 1
    assert len({s["loss"] for s in scores}) == len({s["test_mse"] for s in scores}) == 3


def test_rows_on_an_accelerator_fill_calls_of_one_width(monkeypatch):
    configs = [dataclasses.replace(BASE, seed=seed) for seed in range(3)]
    alone = trials(configs[:1])[0]
    monkeypatch.setattr(training.jax, "default_backend", lambda: "gpu")
    before = group.compilations()
    found = [*trials(configs, width=2), *trials(configs[:1], width=2)]
    assert group.compilations() == before + 1  # three rows, then one: always two at a time
    assert found[3] == found[0]
    for part in ("units", "not_measured"):
        assert found[0].pop(part) == alone.pop(part) == {}
    assert found[0] == pytest.approx(alone, rel=1e-9)


def test_workers_compile_once_and_a_damaged_program_is_made_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")  # the tests' own: workers would use it in place of theirs
    words = "--lr 1e-3:1e-2 --trials 4 --epochs 1 --model.encoder.hidden [8] --model.latent 2 --batch-size 512".split()
    programs = lambda: list((tmp_path / "cache").rglob("*-cache"))

    def table(name, workers):
        assert main([*words, "--workers", str(workers), "--out", str(tmp_path / name)]) == 0
        return (tmp_path / name / "results.csv").read_text()

    cold = table("cold", 2)
    (program,) = programs()
    session = json.loads((tmp_path / "cold" / "sessions.jsonl").read_text())
    assert session["trials"] == 4
    assert 0 < session["first_trial_seconds"] <= session["seconds"]
    assert "; the first after " in capsys.readouterr().out
    program.write_bytes(program.read_bytes()[:1000])
    assert table("damaged", 1) == cold
    assert not programs()
    assert len({line.split(",")[-2] for line in cold.splitlines()}) == 5


def test_a_sweep_ends_with_the_command_that_reproduces_its_best_point(tmp_path, monkeypatch, capsys):
    words = "--lr 1e-4,3e-2 --sampler grid --epochs 2 --model.encoder.hidden [8] --model.latent 2".split()
    out = tmp_path / "sweep"
    assert main([*words, "--seed", "3", "--workers", "1", "--out", str(out)]) == 0
    line = next(w for w in capsys.readouterr().out.splitlines() if w.startswith("train it: "))
    assert line.removeprefix("train it: ") in (out / "sweep.html").read_text()
    command = shlex.split(line.removeprefix("train it: "))
    assert command[:3] == ["python", "train.py", "--from-trial"]
    scores_in = lambda path: json.loads(path.read_text())["record"]["result"]["metrics"]
    best = min(out.glob("trials/*.json"), key=lambda path: scores_in(path)["loss"])
    assert command[3] == f"{out}:{int(best.stem[:5])}"
    monkeypatch.setenv("JAX_ENABLE_X64", "0")
    run = [sys.executable, *command[1:], "--no-figures", "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    scores = scores_in(best)
    shared = [name for name in summary["test"] if f"test_{name}" in scores]
    assert {"mse", "negative_elbo_nats"} <= {*shared}
    for name in shared:  # float32, on one core and on all
        assert summary["test"][name] == pytest.approx(scores[f"test_{name}"], rel=1e-4), name
    assert trial_config(train.Config, str(out)) == trial_config(train.Config, command[3])
    assert trial_config(train.Config, f"{out}:0").lr == 1e-4
    assert trial_config(train.Config, f"{out}:0-r0-s0-f0".replace(":0-", ":00000-")).seed == 3


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("absent", "names no trial: cannot read"),
        ("sweep:7", "no finished trial of point 7"),
        ("sweep", "has not ended with a best point; name one"),
        ("sweep:00000-r9-s0-f0", "names no trial: cannot read"),
        ("sweep:1", "00001-r0-s0-f0.json is damaged"),
        ("other:0", "is not a trial of a sweep of train.py"),
        ("foreign:0", "unknown field 'x'"),
    ],
)
def test_what_is_no_trial_is_one_line(tmp_path, where, message):
    spec = {"values": {"lr": 0.1}, "budget": {"epochs": 3}, "seed": 2}
    for name, head in (("sweep", {"base": to_dict(BASE)}), ("other", []), ("foreign", {"base": {"x": 1}})):
        trials = tmp_path / name / "trials"
        trials.mkdir(parents=True)
        (tmp_path / name / "sweep.json").write_text(json.dumps(head))
        (trials / "00000-r0-s0-f0.json").write_bytes(encode({"spec": spec}))
        (trials / "00001-r0-s0-f0.json").write_bytes(encode({"spec": spec}).replace(b"0.1", b"0.2"))
    found = trial_config(train.Config, f"{tmp_path / 'sweep'}:0")
    assert found == dataclasses.replace(BASE, lr=0.1, epochs=3, seed=BASE.seed + 2)
    with pytest.raises(ConfigError) as error:
        trial_config(train.Config, str(tmp_path / where))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_divergence_is_a_reason_and_unfit_settings_are_refused():
    (found,) = trials([dataclasses.replace(POINT, lr=1e300)])
    assert "was not finite at step" in found["reason"]
    with pytest.raises(ConfigError, match=r"read must be .* in a sweep"):
        trials([dataclasses.replace(BASE, read="stream")])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "digits,mnits"], "unknown data set 'mnits'; did you mean one of: mnist"),
        (["--data-dir", "/nowhere"], "--data-dir '/nowhere' is not a folder"),
        (["--read", "stream"], "read must be 'memory' or 'auto' in a sweep"),
        (["--halving", "epocs:1:9"], "'epocs' is none; the nearest fields: epochs"),
        (["--seed", "1,2", "--seeds", "2"], "the field seed cannot be searched as well"),
    ],
)
def test_what_no_trial_can_run_is_refused_before_anything_is_written(words, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse(["--lr", "1e-3:1e-2", "--trials", "4", *words])
