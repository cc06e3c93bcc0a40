"""A worker process: reads groups of trials as JSON lines, runs them, answers; ends when its parent does.

Started by the local engine by its path, so that before it watches its parent it imports the standard library
only. It lives for the whole sweep: a program compiled for one group serves every later group of its structure.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from queue import Queue
from typing import IO, Any


def die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent ends; elsewhere the closed pipe does it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _reader(stream: IO[str], inbox: "Queue[dict[str, Any]]") -> None:
    """Pass messages on; the end of the pipe is the end of the parent, whatever the main thread is doing."""
    for line in stream:
        inbox.put(json.loads(line))
    os._exit(0)


# one answer per message: the parent waits on the pipe and reads one line at a time
def make_runner(hello: dict[str, Any]) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return the function that runs a group for the sweep that `hello` describes (see `engine.greeting`)."""
    from experiments.search.problem import load_problem
    from experiments.search.proposals.schedule import Trial
    from experiments.search.record.ledger import Ledger
    from experiments.search.space.space import parse_space
    from experiments.search.workers.execute import run_chunk
    from experiments.search.workers.processors import take_core
    from models.config import from_dict

    take_core(hello["number"])
    if hello["data_dir"]:
        os.environ["AUTOENCODERS_DATA"] = hello["data_dir"]
    problem = load_problem(hello["problem"])
    base = from_dict(type(problem.config), hello["base"])
    space = parse_space(base, hello["texts"])
    ledger = Ledger(hello["folder"], hello["patience"])

    def run(specs: list[dict[str, Any]]) -> dict[str, Any]:
        try:
            outcome = run_chunk(problem, space, ledger, [Trial(**s) for s in specs], hello["width"])
        except OSError as error:  # of the ledger: an error of the trial is its result
            return {"error": f"cannot write in {ledger.folder}: {error.strerror or error}"}
        return {"finished": outcome.finished, "busy": outcome.busy}

    return run


def warm_up(problem: str, inbox: "Queue[dict[str, Any]]") -> dict[str, Any]:
    """Import what a problem needs while the parent still reads its command line; return the message that follows."""
    from experiments.search.problem import load_problem
    from experiments.search.space.domains import SpaceError

    with contextlib.suppress(SpaceError):  # the parent says so
        load_problem(problem)
    hello = inbox.get()
    log = os.open(hello["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    return hello


def start_compiler() -> None:
    """Fork the process that compiles the first program on all cores, before this one keeps to one."""
    from experiments.search.workers import compiler

    compiler.start()


def main() -> None:
    """Serve groups until the parent goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a trial prints goes to the log, not into the answers
    inbox: Queue[dict[str, Any]] = Queue()
    first = json.loads(sys.stdin.readline() or "{}")
    if not first:
        return
    die_with(first["parent"])
    threading.Thread(target=_reader, args=(sys.stdin, inbox), daemon=True).start()
    if "warm" in first:
        first = warm_up(first["warm"], inbox)
        start_compiler()

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        run = make_runner(first)
    except Exception as error:
        traceback.print_exc()
        say({"error": f"the worker cannot start: {type(error).__name__}: {error}"})
        return
    while True:
        message = inbox.get()
        say({"chunk": message["chunk"], **run(message["trials"])})


if __name__ == "__main__":
    main()
