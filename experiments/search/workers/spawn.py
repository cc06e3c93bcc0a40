"""Start a worker process; with the standard library alone, so that the first one starts before JAX is imported."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[3]
PROBLEM = "experiments.search.training:problem"
Process = subprocess.Popen[bytes]


def spawn(errors: IO[bytes] | int) -> Process:
    """Start a worker that waits for its first message; what it prints goes to `errors`."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # by its path, not as a module: it must watch its parent before it imports anything slow
    return subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C in the terminal reaches the parent only
    )


def send(process: Process, message: dict[str, Any]) -> None:
    """Write a message to a worker; its death is seen where its answers are read."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()


def end(process: Process) -> None:
    """Kill a worker, whatever it is doing, and close its pipes."""
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            pipe.close()  # type: ignore[union-attr]


def start_early(words: Sequence[str]) -> Process | None:
    """Start the worker that will need JAX first, and let it import what its problem needs.

    words: the command line, which this process has not understood yet; it may turn out wrong, and then the worker
    is ended before it touched anything. None where no worker process is wanted.
    """
    named = dict(itertools.pairwise(words)) | dict(w.split("=", 1) for w in words if "=" in w)
    if named.get("--engine", "local") != "local" or {"-h", "--help", "--fields"} & {*words}:
        return None
    process = spawn(subprocess.DEVNULL)
    send(process, {"parent": os.getpid(), "warm": named.get("--problem", PROBLEM)})
    return process
