"""A process beside a worker that compiles on every core what the worker then loads from the cache of programs.

XLA compiles with as many threads as there were cores when JAX started, and a worker has one core, so that its sums
keep one order (`processors.take_core`). This process is forked before JAX starts in either, when all is imported. Its
program is the same one, cut for more threads: a worker that loads it computes the bits of the one that it would have
compiled itself (a test). It compiles one program, the one that a sweep's first trial waits for, and ends.
"""

import contextlib
import os
import pickle
import signal
import socket
import warnings
from collections.abc import Callable
from typing import Any

from experiments.search.workers.processors import cores, has_accelerator, keep_all

SECONDS = 120.0  # after so long the worker compiles itself

_waiting: list[tuple[int, socket.socket]] = []  # the process and the line to it, until it is used


def start() -> None:
    """Fork the process; not where it could not help: with one core, an accelerator, or no fork."""
    if not hasattr(os, "fork") or len(cores()) < 2 or has_accelerator():
        return
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads: none holds a lock that the new process needs
        child = os.fork()
    if child == 0:
        _serve(theirs, parent)
    theirs.close()
    _waiting.append((child, ours))


def elsewhere(function: Callable[..., None], *arguments: Any) -> bool:
    """Call a function of a module in the process; return whether it ended well. False too where there is none."""
    if not _waiting:
        return False
    child, line = _waiting.pop()
    with line, contextlib.suppress(OSError, pickle.PicklingError):
        line.settimeout(SECONDS)
        line.sendall(pickle.dumps((dict(os.environ), function, arguments)))
        line.shutdown(socket.SHUT_WR)
        answer = line.recv(1)
        _end(child)
        return answer == b"."
    _end(child)
    return False


def _end(child: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _serve(line: socket.socket, parent: int) -> None:
    """Wait for one call, do it, answer with a point; leave without the exit handlers of the worker."""
    from experiments.search.workers.worker import die_with

    try:
        die_with(parent)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # the worker's pipes must end with the worker
        os.closerange(3, line.fileno())
        os.closerange(line.fileno() + 1, 65536)  # the limit itself may be a thousand million
        keep_all()
        with line.makefile("rb") as file:
            environment, function, arguments = pickle.load(file)
        os.environ.update(environment)
        function(*arguments)
        line.sendall(b".")
    finally:
        os._exit(0)
