"""`python -m experiments.evaluate`: numbers of a run with unit and error, kept beside what was there."""

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

import train
from data import Scale
from experiments import evaluate
from models.config import ConfigError
from models.metrics import METRICS
from training.trained.facts import Facts


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    more = ["--metrics", "active_units", "codes"]
    assert train.main(["--run-dir", str(folder), "--epochs", "1", "--no-figures", *more]) == 0
    return folder


def call(*argv):
    return evaluate.main(list(map(str, argv)))


def blocks(path):
    return json.loads(path.read_text())["evaluations"]


def test_numbers_of_a_run_are_kept_and_never_lost(run, tmp_path, capsys):
    out = tmp_path / "evaluation.json"
    assert call(run, "--metrics", "errors", "codes", "--out", out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["number", "value", "unit", "standard", "error"]
    assert any(line.startswith("codes: not measured: codes are not discrete") for line in lines)
    (block,) = blocks(out)
    wanted = json.loads((run / "summary.json").read_text())
    assert block["of"]["params_sha256"] == wanted["params_sha256"]
    mse = block["metrics"]["errors"]["numbers"]["mse"]
    assert mse["value"] == pytest.approx(wanted["test"]["mse"], rel=1e-5)
    assert 0 < mse["standard_error"] < mse["value"]
    assert mse["unit"] == "scaled units squared"
    assert "discrete" in block["not_measured"]["codes"]

    assert call(run, "--metrics", "active_units", "--out", out) == 0  # beside the others
    assert set(blocks(out)[0]["metrics"]) == {"errors", "active_units"}
    assert call(run, "--metrics", "errors", "--limit", 50, "--out", out) == 0  # other conditions: a block of its own
    assert [b["of"]["examples"] for b in blocks(out)] == [block["of"]["examples"], 50]
    assert "replaced" not in capsys.readouterr().out
    kept = json.loads(out.read_text())
    kept["evaluations"][0]["metrics"]["errors"]["numbers"]["mse"]["value"] = 7.0
    out.write_text(json.dumps(kept))
    assert call(run, "--metrics", "errors", "--out", out) == 0
    assert "replaced in evaluation.json: errors" in capsys.readouterr().out


def test_a_run_measures_at_its_end_what_its_command_names(run, capsys):
    """The block of the run's own end is that of an evaluation under the same conditions: nothing is replaced."""
    (block,) = blocks(run / "evaluation.json")
    assert list(block["metrics"]) == ["active_units"]
    assert "discrete" in block["not_measured"]["codes"]
    assert call(run, "--metrics", "active_units") == 0
    assert len(blocks(run / "evaluation.json")) == 1
    assert "replaced" not in capsys.readouterr().out
    with pytest.raises(SystemExit) as code:
        train.main(["--run-dir", str(run.parent / "other"), "--metrics", "active_unit"])
    assert code.value.code == 2
    assert "nearest: active_units" in capsys.readouterr().err
    assert not (run.parent / "other").exists()


def test_a_file_of_examples_and_the_run_s_folder(run, tmp_path):
    np.save(tmp_path / "some.npy", load_digits().images[:30, ..., None].astype(np.uint8))
    assert call(run, "--metrics", "errors", "--data", tmp_path / "some.npy") == 0
    (block,) = (b for b in blocks(run / "evaluation.json") if b["of"]["data"] == str(tmp_path / "some.npy"))
    scores = train.load_run(run).score(load_digits().images[:30, ..., None])
    assert block["metrics"]["errors"]["numbers"]["mse"]["value"] == pytest.approx(np.mean(scores["mse"]), rel=1e-5)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--metrics", "mutual"], "no metric is called 'mutual'"),
        (["--limit", "-1"], "--limit must be at least 0, got -1"),
        (["--samples", "0"], "--samples must be at least 1, got 0"),
        (["--data", "nowhere.npy"], "there is no such file"),
    ],
)
def test_bad_options_are_one_line(run, argv, words, capsys):
    assert call(run, *argv) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_the_commands_of_the_page_run(run, tmp_path):
    """The first one is run; the options of the others are read."""
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    commands = [shlex.split(line)[3:] for line in re.findall(r"python -m experiments\.evaluate runs/.+", text)]
    assert len(commands) >= 3
    first = [str(run) if word == "runs/A" else word for word in commands[0]]
    assert evaluate.main([*first, "--out", str(tmp_path / "evaluation.json")]) == 0
    known = {metric.name for metric in METRICS}
    for command in commands:
        assert set(evaluate.parser().parse_args(command).metrics or ()) <= known


@pytest.mark.parametrize(
    ("known", "y", "wanted"), [(None, [2, 2, 0, 2], [2, 2, 0, 2]), (["a", "b", "c"], list("ccac"), [2, 2, 0, 2])]
)
def test_labels_of_a_file_are_the_numbers_of_training(known, y, wanted, tmp_path):
    """A file without one of the classes was numbered anew, and the model was given other labels than in training."""
    np.savez(tmp_path / "a.npz", x=np.arange(12.0).reshape(4, 3), y=np.array(y))
    scale = Scale.from_json({"kind": "none", "shift": 0.0, "factor": 1.0})
    facts = Facts("made", (3,), 4, 0.0, 11.0, True, scale, (), 3, {"classes": known, "shape": [3]})
    run = SimpleNamespace(classes=3, given_labels=False, facts=facts, scaled=lambda x: x)
    shown = evaluate.from_file(run, str(tmp_path / "a.npz"))
    assert shown.batch.label.tolist() == wanted
    assert shown.labels.tolist() == [1, 1, 0, 1]
    np.savez(tmp_path / "a.npz", x=np.arange(12.0).reshape(4, 3))
    assert evaluate.from_file(run, str(tmp_path / "a.npz")).batch.label is None  # inferred
    run.given_labels = True
    with pytest.raises(ConfigError, match="has none"):
        evaluate.from_file(run, str(tmp_path / "a.npz"))
