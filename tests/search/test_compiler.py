"""The process that compiles for a worker: what it does, that it ends, and that it changes no bit."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="it needs two cores")

SMALL = """
import os, sys, time
from experiments.search.workers import compiler
compiler.start()
child = compiler._waiting[0][0] if compiler._waiting else 0
"""

RUN = """
import json, sys
import train
from experiments.search import training
from experiments.search.workers import compiler
from experiments.search.workers.processors import take_core
from models import Dense, Model
if sys.argv[1] == "beside":
    compiler.start()
take_core(0)
asked, real = [], compiler.elsewhere
def elsewhere(*call):
    asked.append(real(*call))
    return asked[-1]
compiler.elsewhere = elsewhere
config = train.Config(model=Model(encoder=Dense(hidden=(24,)), latent=3), epochs=2)
rows = list(training.run_group([config], None, 8))
print(json.dumps([asked, [{k: v.hex() for k, v in r.items()} for r in rows]]))
"""


def run(code, *words, cache=None):
    env = os.environ | {"PYTHONPATH": str(ROOT)} | ({"XDG_CACHE_HOME": str(cache)} if cache else {})
    done = subprocess.run([sys.executable, "-c", code, *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_program_compiled_beside_the_worker_gives_the_same_bits(tmp_path):
    alone, rows = json.loads(run(RUN, "alone", cache=tmp_path / "a")[-1])
    beside, same = json.loads(run(RUN, "beside", cache=tmp_path / "b")[-1])
    assert (alone, beside) == ([False], [True])
    assert rows == same
    assert len(list(tmp_path.glob("b/**/*-cache"))) == 1  # of the other process; the worker read it


def test_a_call_is_made_in_the_other_process_or_not_at_all(tmp_path):
    made = tmp_path / "folder"
    code = SMALL + "print(child > 0, compiler.elsewhere(os.mkdir, sys.argv[1]), compiler.elsewhere(os.mkdir, '/x'))"
    code += "\nprint(os.path.isdir(sys.argv[1]), os.path.exists(f'/proc/{child}'))"
    assert run(code, str(made)) == ["True True False", "True False"]
    assert run(code, str(made)) == ["True False False", "True False"]  # the folder exists: the call raises
    lost = SMALL + "os.kill(child, 9); print(compiler.elsewhere(os.mkdir, sys.argv[1]))"
    assert run(lost, str(made)) == ["False"]
    slow = SMALL + "compiler.SECONDS = 0.2; print(compiler.elsewhere(time.sleep, 60), os.path.exists(f'/proc/{child}'))"
    assert run(slow) == ["False False"]


def test_it_ends_with_its_worker():
    worker = subprocess.Popen(
        [sys.executable, "-c", SMALL + "print(child, flush=True); time.sleep(60)"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
    )  # fmt: skip
    child = int(worker.stdout.readline())
    assert Path(f"/proc/{child}").exists()
    worker.kill()
    worker.communicate()
    until = time.monotonic() + 5
    while Path(f"/proc/{child}/exe").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}/exe").exists()
