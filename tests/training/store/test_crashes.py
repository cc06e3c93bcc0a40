"""A kill at any system call of a run folder's life leaves a folder that goes on to the same end."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

LIVES = """
import os, shutil, sys
from pathlib import Path
import numpy as np
from training.store import run_folder
from training.store.run_folder import RunFolder
from training.store.metrics_file import read_metrics

run_folder.environment = lambda data=None, threads=None: {  # starts no threads: this process forks
    "python": "3", "packages": {}, "backend": "cpu", "devices": [], "data": data}
CALLS = ("open", "replace", "fsync", "link", "unlink", "write", "close", "ftruncate", "pwrite")
DATA = {"examples": {"train": 3}, "shape": [2], "files": {"a": "b"}, "values": None}

def live(path):
    "Begin a run or take it up, and work on to step 3; die wherever the caller arranged."
    if (path / "config.json").exists():
        run = RunFolder.take(path)
    else:
        run = RunFolder.claim(path)
    with run:
        run.begin({"lr": 0.1}, "train", None, DATA)
        best = {"value": 0.5, "epoch": 1, "metrics": None}
        meta = {"dispatch": "loop", "seconds": 1.0, "stream": None, "best": best}
        found = run.latest()
        step = 0 if found is None else int(found[0].stem.removeprefix("step-")) if "step" in found[0].name else 1
        run.rewind(step, found and found[1])
        for now in range(step + 1, 4):
            run.metrics.append({"step": now, "loss": 1 / now})
            run.save(now, {"w": np.arange(3.0) * now}, meta, best=now == 1)
        run.log("done")
        run.finish("finished", seconds=1.0, params_sha256="x", test={"mse": 0.5}, last={}, best=best, end={"step": 3})

def count_down(left):
    "Make the process die at the call number `left` of those that touch the disk."
    def counted(real):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return real(*arguments, **options)
        return call
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))

root, points = Path(sys.argv[1]), 0
while True:
    path = root / str(points)
    child = os.fork()
    if child == 0:
        count_down(points)
        live(path)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    live(path)
    live(path)  # a finished run is taken up, found sound, and worked on no further
    rows = read_metrics(path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3], rows
    assert not list(path.rglob("*.tmp")), list(path.rglob("*.tmp"))
    shutil.rmtree(path)
    if code == 0:
        break
    assert code == 9, (points, code)
    points += 1
print(points)
"""


def test_a_kill_at_any_call_leaves_a_run_to_resume(tmp_path):
    command = [sys.executable, "-c", LIVES, tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.splitlines()[-1]) > 50
