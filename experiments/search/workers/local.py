"""The local engine: a few worker processes on this machine, each fed JSON lines."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.search.proposals.schedule import Trial
from experiments.search.workers.engine import Engine, Event, Greeting, python_path

MOST_SILENT_DEATHS = 20  # in a row; a lone trial that kills its worker is given up sooner


class _Worker:
    """One process, the group it runs (-1: none), and its log."""

    def __init__(self, number: int, greeting: Greeting) -> None:
        self.number, self.chunk = number, -1
        self.log = Path(greeting.folder) / f"worker-{number}.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "experiments.search.workers.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": python_path()},
                start_new_session=True,  # Ctrl-C in the terminal reaches the parent only
            )
        self.answers: Any = self.process.stdout
        self.send(greeting.message(number))

    def send(self, message: dict[str, Any]) -> None:
        """Write a message; the worker's death is seen where its answers are read."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def end(self) -> None:
        """Kill the process, whatever it is doing, and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in filter(None, (self.process.stdin, self.process.stdout)):
            with contextlib.suppress(OSError):  # what was still to be written has no reader
                pipe.close()


class Local(Engine):
    """Worker processes on this machine; one that dies is replaced."""

    def __init__(self, greeting: Greeting, workers: int) -> None:
        self.greeting, self.silent_deaths = greeting, 0
        self.selector = selectors.DefaultSelector()
        self.workers = [self._start(number) for number in range(workers)]

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
        worker.send({"trials": [t.spec() for t in trials]})

    def wait(self, seconds: float) -> list[Event]:
        """Read answers; replace workers that died."""
        events = []
        for key, _ in self.selector.select(seconds):
            worker = self.workers[key.data]
            try:
                error = json.loads(worker.answers.readline())["error"]
            except ValueError:  # the pipe ended, perhaps within a line
                events += self._bury(worker)
                continue
            events.append(Event(worker.chunk, error=error))
            worker.chunk, self.silent_deaths = -1, 0
        return events

    def _bury(self, worker: _Worker) -> list[Event]:
        self.selector.unregister(worker.answers)
        worker.end()
        self.silent_deaths += 1
        if self.silent_deaths > MOST_SILENT_DEATHS:
            return [Event(worker.chunk, error=f"the workers die without an answer, again and again; see {worker.log}")]
        self.workers[worker.number] = self._start(worker.number)
        return [Event(worker.chunk, died=True)] if worker.chunk >= 0 else []

    def close(self) -> None:
        """Kill the workers; what they were doing stays free for the next run."""
        for worker in self.workers:
            worker.end()
        self.selector.close()
