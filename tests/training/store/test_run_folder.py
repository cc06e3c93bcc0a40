"""A run folder has one owner, loses no row, and is never half written."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from training import RunError, RunFolder, default_path
from training.store.environment import differences, environment
from training.store.files import json_ready, replacing, to_json, write_json
from training.store.metrics_file import read_metrics

ROOT = Path(__file__).resolve().parents[3]


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


META = {"dispatch": "loop", "seconds": 1.0, "stream": None, "best": {"value": 0.5, "epoch": 0, "metrics": None}}

RESULT = {"seconds": 1.0, "params_sha256": "ab", "test": None, "last": {}, "best": META["best"], "end": {"step": 50}}


def create(path: Path) -> RunFolder:
    return RunFolder.create(path, {"kind": "Config", "lr": 1e-3}, "python train.py", {"name": "digits"})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "one"


def test_files_of_a_new_run(path):
    with create(path) as run:
        run.log("hello")
        assert run.config == {"kind": "Config", "lr": 1e-3}
        assert run.summary is None
        run.finish("finished", test={"mse": np.float32(0.5)}, seconds=1.0, params_sha256="ab", best=None)
    assert json.loads((path / "summary.json").read_text())["test"] == {"mse": 0.5}
    assert (path / "command.txt").read_text() == "python train.py\n"
    env = json.loads((path / "env.json").read_text())
    assert env["packages"]["jax"]
    assert env["devices"]
    assert env["data"] == {"name": "digits"}
    assert "hello" in (path / "log.txt").read_text()
    assert not list(path.rglob("*.tmp"))
    with (
        create(path.with_name("two")) as run,
        pytest.raises(ValueError, match="status must be one of finished"),
    ):
        run.finish("done")


def test_default_names_do_not_collide(tmp_path):
    made = []
    for _ in range(3):
        made.append(default_path("file:a/b c.npz", "elbo", tmp_path))
        made[-1].mkdir()
    assert len(set(made)) == 3
    assert all(p.parent == tmp_path and p.name.startswith("file-a-b-c.npz-elbo-2") for p in made)


@pytest.mark.parametrize("status", [None, "finished", "preempted"])
def test_a_run_is_not_overwritten(path, status):
    with create(path) as run:
        if status:
            run.finish(status)
    before = snapshot(path)
    with pytest.raises(RunError, match=rf"already holds a run \({status or 'unfinished'}\); add --resume"):
        create(path)
    assert snapshot(path) == before


@pytest.mark.parametrize(
    "files",
    [
        ["notes.txt"],
        ["config.json"],
        ["env.json", "model.pt"],
        ["command.txt"],
        [".lock", "figures/a.png"],
        ["x.tmp"],
    ],
)
def test_a_foreign_folder_is_left_alone(path, files):
    path.mkdir(parents=True)
    for name in files:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text("{}")
    before = snapshot(path)
    with pytest.raises(RunError, match="holds files of something else"):
        create(path)
    assert snapshot(path) == before


@pytest.mark.parametrize("content", [{}, {"notes.txt": "x"}])
def test_resume_needs_a_run(path, content):
    with pytest.raises(RunError, match="does not exist; start a new run without --resume"):
        RunFolder.resume(path, "")
    path.mkdir(parents=True)
    for name, text in content.items():
        (path / name).write_text(text)
    before = snapshot(path)
    with pytest.raises(RunError, match=r"is no run folder \(no config.json\)"):
        RunFolder.resume(path, "")
    assert snapshot(path) == before


def test_a_path_that_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="it is a file; choose another folder"):
        create(tmp_path / "file")
    with pytest.raises(RunError, match=r"cannot create .*file/below: .*choose another folder"):
        create(tmp_path / "file" / "below")
    with pytest.raises(RunError, match="cannot create /proc/run"):
        create(Path("/proc/run"))
    assert snapshot(tmp_path) == {"file": b"x"}


def test_a_folder_without_permission(path, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(
        RunError, match=r"cannot create .*: no permission; choose another folder with --run-dir"
    ):
        create(path)
    monkeypatch.undo()
    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(RunError, match=r"cannot lock .*: no permission; choose another folder"):
        create(path)


def test_a_start_that_was_killed_early_can_be_repeated(path):
    create(path).close()
    (path / "config.json").unlink()
    (path / ".config.json.77.tmp").write_text("{")
    with create(path) as run:
        assert run.config["lr"] == 1e-3
    assert not list(path.glob(".*.tmp"))


HOLD = """
import sys
from pathlib import Path
from training import RunFolder
run = RunFolder.resume(Path(sys.argv[1]), "hold")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_gone_even_killed(path):
    create(path).close()
    command = [sys.executable, "-c", HOLD, str(path)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        before = snapshot(path)
        with pytest.raises(RunError, match=rf"is in use by process {first.pid} on \S+ \(started 20\d\d-"):
            RunFolder.resume(path, "second")
        assert snapshot(path) == before
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    with RunFolder.resume(path, "third"):
        pass
    assert (path / "command.txt").read_text().splitlines() == ["python train.py", "hold", "third"]


def test_rewind_keeps_the_rows_up_to_the_checkpoint(path):
    with create(path) as run:
        for step in range(0, 100, 10):
            run.metrics.append({"step": np.int64(step), "loss": jnp.float32(step / 3), "bad": float("nan")})
            if step == 50:
                run.save(step, {"w": np.ones(2)}, META)
        run.finish("preempted", **RESULT)
    rows = read_metrics(path / "metrics.jsonl")
    with open(path / "metrics.jsonl", "a") as file:
        file.write('{"step": 100, "lo')  # what a kill leaves
    assert read_metrics(path / "metrics.jsonl") == rows
    with RunFolder.resume(path, "again") as run:
        found = run.latest()
        assert found is not None
        run.rewind(50, found[1])
        assert run.summary is None
        run.metrics.append({"step": 60, "loss": 20.0, "bad": "nan"})
    after = read_metrics(path / "metrics.jsonl")
    assert [row["step"] for row in after] == [0, 10, 20, 30, 40, 50, 60]
    assert after[:6] == rows[:6]
    assert rows[0]["bad"] == "nan"


def test_a_damaged_row_is_named(path):
    create(path).close()
    (path / "metrics.jsonl").write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    with pytest.raises(RunError, match=r"metrics.jsonl, line 2 is no row of metrics"):
        read_metrics(path / "metrics.jsonl")


def test_a_row_is_written_whole_or_not_at_all(path, monkeypatch):
    with create(path) as run:
        run.metrics.append({"step": 1, "loss": 0.5})

        class Half:
            """A file on a disk with room for three more bytes."""

            def __init__(self, file):
                self.file = file

            def __getattr__(self, name):
                return getattr(self.file, name)

            def write(self, data):
                return self.file.write(data[:3])

        run.metrics._file = Half(run.metrics._file)
        with pytest.raises(RunError, match="the disk is full"):
            run.metrics.append({"step": 2, "loss": 0.25})
    assert read_metrics(path / "metrics.jsonl") == [{"step": 1, "loss": 0.5}]
    assert (path / "metrics.jsonl").read_text().endswith("}\n")


def test_refused_checkpoints_are_printed_and_logged(path, capsys):
    with create(path) as run:
        for step in (1, 2):
            damaged = run.save(step, {"w": np.ones(2)}, META | {"seconds": step})
        damaged.write_bytes(damaged.read_bytes()[:-1])
        found = run.latest()
        assert found is not None
        assert found[1]["seconds"] == 1
    assert damaged.name in capsys.readouterr().out
    assert damaged.name in (path / "log.txt").read_text()


def test_json_is_valid_for_every_number():
    value = {
        "a": float("nan"),
        "b": [np.float32("inf"), -jnp.inf],
        3: jnp.ones((2, 1), jnp.bfloat16),
        "p": Path("x"),
        "n": None,
    }
    expected = {"a": "nan", "b": ["inf", "-inf"], "3": [[1.0], [1.0]], "p": "x", "n": None}
    assert json.loads(to_json(value)) == expected
    with pytest.raises(TypeError, match="no JSON form for object"):
        json_ready(object())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "summary.json"
    write_json(target, {"status": "finished"})
    with contextlib.suppress(ZeroDivisionError), replacing(target) as file:
        file.write(b"half")
        raise ZeroDivisionError
    with pytest.raises(TypeError):
        write_json(target, {"status": object()})
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]
    assert json.loads(target.read_text()) == {"status": "finished"}


def test_differences_of_environments():
    env = environment({"sha256": "a"})
    assert differences(env, env) == []
    newer = env | {"data": {"sha256": "b"}}
    assert differences(env, newer) == ["data.sha256: a -> b"]
    assert os.path.basename(env["python"]).startswith("3.")
