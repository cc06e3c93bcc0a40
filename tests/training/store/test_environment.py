"""What a run was made with is recorded, and the number of XLA's threads, which moves the last bits, can be fixed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from training import RunError
from training.store.environment import bits_differ, cores, environment, fix_threads

ROOT = Path(__file__).resolve().parents[3]
SMALL = ["--epochs", "3", "--no-figures", "--dispatch", "loop"]  # large enough for products that are split by threads


def run(folder, count, *options):
    """Run the command line on `count` cores; return its summary, its environment and what it printed."""

    pinned = f"""import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{count}])
os.execv(sys.executable, [sys.executable, "train.py", *sys.argv[1:]])"""  # no fork of this process, which has threads
    command = [sys.executable, "-c", pinned, "--run-dir", folder, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    read = lambda name: json.loads((folder / name).read_text())
    return read("summary.json"), read("env.json"), done.stdout


@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_with_threads_fixed_any_number_of_cores_gives_the_same_bits(tmp_path):
    """Without --threads, JAX 0.10.2 gives another hash on each (0.12 gives the same for this model)."""
    one, env, _ = run(tmp_path / "one", 1, *SMALL, "--threads", "1")
    two, _, _ = run(tmp_path / "two", 2, *SMALL, "--threads", "1")
    assert one["params_sha256"] == two["params_sha256"]
    assert (env["cores"], env["threads"], env["thread_settings"]["PJRT_NPROC"]) == (1, 1, "1")
    again, _, said = run(tmp_path / "one", 2, "--resume")  # takes the run's own number of threads
    assert again["params_sha256"] == one["params_sha256"]
    assert "warning" not in said


def test_a_resume_with_other_threads_is_told():
    old = environment()
    assert bits_differ(old, old) == []
    assert bits_differ(old | {"threads": 2, "cores": 1}, old | {"threads": None, "cores": 2}) == []
    (line,) = bits_differ(old | {"threads": None, "cores": 2}, old | {"threads": None, "cores": 1})
    assert line.startswith("warning: the run began on 2 threads, now on 1; its bits may differ")
    (line,) = bits_differ(old | {"thread_settings": {}}, old | {"thread_settings": {"XLA_FLAGS": "--x"}})
    assert "now with {'XLA_FLAGS': '--x'}" in line
    assert bits_differ(old | {"backend": "gpu", "cores": 2}, old | {"backend": "gpu", "cores": 1}) == []
    (line,) = bits_differ(old | {"packages": {"jaxlib": "0.1"}}, old)
    assert line.startswith("warning: the run began with jaxlib 0.1, now ")


def test_threads_cannot_change_once_jax_has_started(monkeypatch):
    environment()  # starts it
    monkeypatch.delenv("PJRT_NPROC", raising=False)
    fix_threads(None)
    with pytest.raises(RunError, match="--threads 3 comes too late, JAX has started: set PJRT_NPROC=3 before"):
        fix_threads(3)
    monkeypatch.setenv("PJRT_NPROC", "3")
    fix_threads(3)
