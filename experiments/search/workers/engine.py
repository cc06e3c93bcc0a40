"""Engines: where groups of trials run. The local one keeps a few worker processes; `engine_ray` uses Ray.

An engine only carries groups to processes and tells what became of them. The record is the ledger, so an engine
may lose any message, worker or itself without losing a trial.
"""

import abc
import dataclasses
import importlib.util
import json
import os
import selectors
from pathlib import Path
from typing import IO, Any

from experiments.search.proposals.schedule import Trial
from experiments.search.space.domains import SpaceError
from experiments.search.workers.spawn import Process, end, send, spawn

MOST_SILENT_DEATHS = 20  # in a row; a lone trial that kills its worker is given up sooner


@dataclasses.dataclass(frozen=True)
class Greeting:
    """What a worker must know of a sweep: all by name or as plain values, nothing pickled."""

    problem: str
    base: dict[str, Any]
    texts: dict[str, Any]
    folder: str
    patience: float
    width: int = 8
    data_dir: str = ""

    def log(self, number: int) -> Path:
        """Return the file that takes what a worker prints."""
        return Path(self.folder) / f"worker-{number}.log"

    def message(self, number: int) -> dict[str, Any]:
        """Return it as JSON values, with the worker's number and the process it must not outlive."""
        return {**dataclasses.asdict(self), "number": number, "parent": os.getpid(), "log": str(self.log(number))}


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


class _Worker:
    """One process and the group it runs."""

    def __init__(self, number: int, greeting: Greeting, early: Process | None = None) -> None:
        self.number, self.chunk = number, -1
        if early is None:
            with open(greeting.log(number), "ab") as errors:
                early = spawn(errors)
        self.process = early
        self.send(greeting.message(number))

    @property
    def answers(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def send(self, message: dict[str, Any]) -> None:
        send(self.process, message)

    def end(self) -> None:
        end(self.process)


class Local(Engine):
    """Worker processes on this machine; one that dies is replaced. `early`: the first one, started before."""

    def __init__(self, greeting: Greeting, workers: int, early: Process | None = None) -> None:
        self.greeting = greeting
        self.selector = selectors.DefaultSelector()
        self.workers: list[_Worker] = []
        self.silent_deaths = 0
        for number in range(workers):
            self.workers.append(self._start(number, early if number == 0 else None))

    def _start(self, number: int, early: Process | None = None) -> _Worker:
        worker = _Worker(number, self.greeting, early)
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
            log = self.greeting.log(worker.number)
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
        raise SpaceError("--engine ray needs Ray: pip install -e '.[ray]'")


def make_engine(name: str, greeting: Greeting, workers: int, early: Process | None = None) -> Engine:
    """Return the engine called local or ray (see `check_engine`); the local one takes over a worker started early."""
    if name == "local":
        return Local(greeting, workers, early)
    from experiments.search.workers.engine_ray import Ray

    return Ray(greeting, workers)
