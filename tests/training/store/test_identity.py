"""A run folder is one thing: data, config and folder are those of the run, or one line says what differs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.store.damage import call
from training import RunFolder
from training.store.environment import environment

ROOT = Path(__file__).resolve().parents[3]
SMALL = ["--model.encoder.hidden", 8, "--model.latent", 2, "--epochs", 2, "--no-figures", "--dispatch", "loop"]


def write_data(folder, seed=0, count=200):
    x = np.random.default_rng(seed).integers(0, 256, (count, 4, 4)).astype(np.uint8)
    np.savez(folder / "small.npz", x=x)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Return the folder of a finished run; its data lie beside it."""
    root = tmp_path_factory.mktemp("identity")
    write_data(root)
    assert call("--dataset", f"file:{root / 'small.npz'}", "--run-dir", root / "done", *SMALL)[0] == 0
    return root / "done"


@pytest.fixture
def run(done, tmp_path):
    """Return a copy of the run that has lost its summary: it is to be taken up again."""
    shutil.copytree(done, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    yield tmp_path / "run"
    write_data(done.parent)


def refused(words, *options, code=1):
    """Assert that a command is refused by one line that matches, after none but that of the data."""
    got, said = call(*options)
    assert got == code, said
    *before, line = said.strip().splitlines()
    assert all(text.startswith("file:") for text in before), said
    assert line.startswith("train.py: "), said
    assert re.search(words, line), said


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_a_resume_on_other_values_needs_a_word(run, done):
    write_data(done.parent, seed=1)
    words = "small.npz has sha256 .* when the run began; for a run on these data use --from .* --resume --accept data"
    refused(words, "--resume", "--run-dir", run)
    assert not (run / "summary.json").exists()
    code, said = call("--resume", "--accept", "data", "--run-dir", run)
    assert code == 0
    assert "other data from here on, as accepted" in said
    record = json.loads((run / "run.json").read_text())
    first = json.loads((done / "run.json").read_text())["data"]
    assert record["earlier_data"] == [first]
    assert record["data"]["files"] != first["files"]
    assert "other data from here on" in (run / "log.txt").read_text()
    write_data(done.parent)
    refused("the data are not those of", "--resume", "--run-dir", run)  # now these are the others


def test_a_resume_on_another_number_of_examples_is_refused(run, done):
    write_data(done.parent, count=180)
    words = r"\w+ has \d+ examples, \d+ when the run began; for a run .* --from"
    for accept in ([], ["--accept", "data"]):
        refused(words, "--resume", *accept, "--run-dir", run)


def test_a_repetition_on_other_data_needs_a_word(done, tmp_path, run):
    write_data(done.parent, seed=1)
    refused("the data are not those of .*: --accept data", "--from", done, "--run-dir", tmp_path / "b", *SMALL[-3:])
    assert not (tmp_path / "b").exists()
    assert call("--from", done, "--accept", "data", "--run-dir", tmp_path / "b", *SMALL[-3:])[0] == 0


def test_an_edited_config_is_refused(run, tmp_path):
    config = run / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lr": 0.002}))
    refused("config.json is not the one that run.json knows", "--resume", "--run-dir", run, code=2)
    refused("config.json is not the one that run.json knows", "--from", run, "--run-dir", tmp_path / "b", code=2)
    assert call("--from", run, "--accept", "config", "--run-dir", tmp_path / "b", *SMALL[-3:])[0] == 0
    assert json.loads((tmp_path / "b" / "config.json").read_text())["lr"] == 0.002


def test_lost_rows_are_refused_or_accepted(run):
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text(rows[0])
    words = "metrics.jsonl was changed since the run wrote it: it has 1 rows where 2 were written; .* --accept rows"
    refused(words, "--resume", "--run-dir", run)
    code, said = call("--resume", "--accept", "rows", "--run-dir", run, "--no-figures")
    assert code == 0
    assert "1 of 2 rows are left, as accepted" in said


def test_an_older_run_gets_one_line(run, tmp_path):
    (run / "run.json").unlink()
    code, said = call("--resume", "--run-dir", run)
    assert code == 1
    assert "has no run.json: it was deleted, or a version without it made this run" in said
    code, said = call("--from", run, "--run-dir", tmp_path / "b", *SMALL[-3:])
    assert code == 0
    assert "its config.json is taken unverified" in said


def test_every_row_tells_its_seconds(done):
    rows = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    assert 0 < rows[0]["seconds"] <= rows[1]["seconds"] <= summary(done)["seconds"]


def test_a_folder_in_use_is_refused_before_data_are_read(tmp_path):
    with RunFolder.claim(tmp_path / "run"):
        refused("is in use by process", "--dataset", "file:/no/such.npz", "--run-dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    refused("/no/such.npz", "--dataset", "file:/no/such.npz", "--run-dir", tmp_path / "a" / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["summary.json", "run.json", "env.json", "metrics.jsonl", "log.txt"])
def test_a_pipe_in_place_of_a_file_is_never_waited_for(run, name):
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    code = 2 if name == "run.json" else 1  # found by the command line, which reads the config
    refused(f"{name}: it is no regular file", "--resume", "--run-dir", run, code=code)


def test_nothing_is_written_through_a_link(run, tmp_path):
    (run / "log.txt").symlink_to(tmp_path / "outside")
    refused("log.txt: it is a link", "--resume", "--run-dir", run)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", 10**20], "seed must be below 2"),
        (["--seed", 2**31], "seed must be below 2"),
        (["--epochs", 10**11], "epochs must be below 2"),
        (["--epochs", 2 * 10**9], "epochs must be at most .* of 9 steps each"),
        (["--threads", 0], "--threads must be from 1 to 1024"),
        (["--data-dir", "/tmp/\udcff"], "bytes that are no UTF-8 text"),
        (["--accept", "all"], "accept"),
    ],
)
def test_values_beyond_what_a_run_can_hold(options, words, tmp_path):
    refused(words, "--run-dir", tmp_path / "run", *options, code=2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("end", [">/dev/full 2>&1", "| true", ">&- 2>&- <&-"])
def test_a_run_goes_on_when_nobody_can_read_what_it_says(end, tmp_path):
    command = f"{sys.executable} train.py --run-dir {tmp_path / 'run'} {' '.join(map(str, SMALL))} {end}"
    subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=ROOT, check=True, timeout=300)
    assert summary(tmp_path / "run")["status"] == "finished"


def test_without_a_home_there_is_no_cache(monkeypatch):
    from training.devices import cache_dir, measured_choice

    environment()
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it does without HOME and without an account
    assert not os.access(cache_dir(), os.W_OK)
    assert measured_choice("q", "s", {"only": lambda: 1.0}, repeats=1)[0] == "only"
