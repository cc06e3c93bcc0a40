"""Engines: where groups of trials run. The local one keeps a few worker processes; `engine_ray` uses Ray.

An engine only carries groups to processes and tells what became of them. The record is the ledger, so an engine
may lose any message, worker or itself without losing a trial.
"""

import abc
import contextlib
import dataclasses
import importlib.util
import json
import os
import selectors
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from experiments.search.domains import SpaceError
from experiments.search.schedule import Trial

MOST_SILENT_DEATHS = 20  # in a row; a lone trial that kills its worker is given up sooner
ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Greeting:
    """What a worker must know of a sweep: all by name or as plain values, nothing pickled."""

    problem: str
    base: dict[str, Any]
    texts: dict[str, Any]
    folder: str
    patience: float
    width: int = 8

    def message(self, number: int) -> dict[str, Any]:
        """Return it as JSON values, with the worker's number and the process it must not outlive."""
        return {**dataclasses.asdict(self), "number": number, "parent": os.getpid()}


@dataclasses.dataclass(frozen=True)
class Event:
    """The end of a group: what the worker answered, or why it could not (died: its process is gone)."""

    chunk: int
    finished: tuple[str, ...] = ()
    died: bool = False
    error: str = ""


class Engine(abc.ABC):
    """Carries groups of trials to processes."""

    @abc.abstractmethod
    def room(self) -> int:
        """Return how many groups can start now."""

    @abc.abstractmethod
    def submit(self, chunk: int, trials: list[Trial]) -> None:
        """Start a group."""

    @abc.abstractmethod
    def wait(self, seconds: float) -> list[Event]:
        """Return the groups that ended, after at most `seconds`."""

    @abc.abstractmethod
    def close(self) -> None:
        """End all processes."""


def cores() -> list[int]:
    """Return the processor cores this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def has_accelerator() -> bool:
    """Whether this machine shows a GPU or TPU that the trials will use."""
    on_cpu = os.environ.get("JAX_PLATFORMS", "").startswith("cpu")
    return not on_cpu and (Path("/dev/nvidia0").exists() or Path("/dev/accel0").exists())


def take_core(number: int) -> None:
    """Keep this process on one core, before JAX starts, so that XLA makes one thread.

    Sums are then taken in the same order, and results have the same bits, for any number of workers; the cores
    are used by having a worker each. With an accelerator nothing is changed.
    """
    if hasattr(os, "sched_setaffinity") and not has_accelerator():
        have = cores()
        os.sched_setaffinity(0, {have[number % len(have)]})


def default_workers() -> int:
    """Return one worker per core, and one only when there is an accelerator: a device is not shared."""
    return 1 if has_accelerator() else len(cores())


class _Worker:
    """One process and the group it runs."""

    def __init__(self, number: int, greeting: Greeting) -> None:
        self.number, self.chunk = number, -1
        log = Path(greeting.folder) / f"worker-{number}.log"
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        # by its path, not as a module: it must watch its parent before it imports anything slow
        command = [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))]
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C in the terminal reaches the parent only
            )
        self.send(greeting.message(number))

    @property
    def answers(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its death is seen where its answers are read
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]


class Local(Engine):
    """Worker processes on this machine; one that dies is replaced."""

    def __init__(self, greeting: Greeting, workers: int) -> None:
        self.greeting = greeting
        self.selector = selectors.DefaultSelector()
        self.workers: list[_Worker] = []
        self.silent_deaths = 0
        for number in range(workers):
            self.workers.append(self._start(number))

    def _start(self, number: int) -> _Worker:
        worker = _Worker(number, self.greeting)
        self.selector.register(worker.answers, selectors.EVENT_READ, number)
        return worker

    def room(self) -> int:
        """Return how many workers are idle; a starting one takes its first group at once."""
        return sum(w.chunk < 0 for w in self.workers)

    def submit(self, chunk: int, trials: list[Trial]) -> None:
        """Send a group to an idle worker."""
        worker = next(w for w in self.workers if w.chunk < 0)
        worker.chunk = chunk
        worker.send({"chunk": chunk, "trials": [t.spec() for t in trials]})

    def wait(self, seconds: float) -> list[Event]:
        """Read answers; replace workers that died."""
        events = []
        for key, _ in self.selector.select(seconds):
            worker = self.workers[key.data]
            line = worker.answers.readline()
            try:
                message = json.loads(line)
            except ValueError:  # the pipe ended, perhaps within a line
                events += self._bury(worker)
                continue
            self.silent_deaths = 0
            if "chunk" not in message:
                events.append(Event(worker.chunk, error=message["error"]))
            else:
                worker.chunk = -1
                events.append(
                    Event(message["chunk"], tuple(message.get("finished", ())), error=message.get("error", ""))
                )
        return events

    def _bury(self, worker: _Worker) -> list[Event]:
        self.selector.unregister(worker.answers)
        worker.end()
        self.silent_deaths += 1
        if self.silent_deaths > MOST_SILENT_DEATHS:
            log = Path(self.greeting.folder) / f"worker-{worker.number}.log"
            return [Event(worker.chunk, error=f"the workers die without an answer, again and again; see {log}")]
        self.workers[worker.number] = self._start(worker.number)
        return [Event(worker.chunk, died=True)] if worker.chunk >= 0 else []

    def close(self) -> None:
        """Kill the workers; what they were doing stays free for the next run."""
        for worker in self.workers:
            worker.end()
        self.selector.close()


def check_engine(name: str) -> None:
    """Raise SpaceError, with the line that installs it, when an engine's package is absent."""
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise SpaceError("--engine ray needs Ray: pip install 'autoencoders-jax[ray]'")


def make_engine(name: str, greeting: Greeting, workers: int) -> Engine:
    """Return the engine called local or ray (see `check_engine`)."""
    if name == "local":
        return Local(greeting, workers)
    from experiments.search.engine_ray import Ray

    return Ray(greeting, workers)
