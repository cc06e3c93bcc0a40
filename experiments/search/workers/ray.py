"""The Ray engine: the same groups as Ray actors, on this machine or on a cluster that shares the ledger's folder."""

import itertools
import logging
import os
import subprocess
import sys
import uuid
from typing import Any

from experiments.search.proposals.schedule import Trial
from experiments.search.workers.engine import Engine, Event, Greeting, python_path

MARK = "AUTOENCODERS_RAY_SESSION"


class Ray(Engine):
    """One actor per worker, each with one core; RAY_ADDRESS chooses a running cluster, else Ray starts here."""

    def __init__(self, greeting: Greeting, workers: int) -> None:
        import ray

        self.ray, self.greeting, self.numbers = ray, greeting, itertools.cycle(range(workers))
        os.environ["PYTHONPATH"] = python_path()
        self.started = not ray.is_initialized()
        self.guardian: subprocess.Popen[bytes] | None = None
        if self.started:
            address = os.environ.get("RAY_ADDRESS")
            if not address:
                self._guard()
            local: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **local)
        self.actor = ray.remote(num_cpus=1)(_Actor)
        self.idle = [self._start() for _ in range(workers)]
        self.running: dict[Any, tuple[int, Any]] = {}

    def _guard(self) -> None:
        """Mark the environment that Ray's processes will inherit, and let a guardian end them if this one is killed."""
        value = uuid.uuid4().hex
        command = [sys.executable, "-P", "-m", "experiments.search.workers.guardian", f"{MARK}={value}"]
        self.guardian = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        os.environ[MARK] = value

    def _start(self) -> Any:
        return self.actor.remote(self.greeting.message(next(self.numbers)))

    def room(self) -> int:
        """Return how many actors are idle."""
        return len(self.idle)

    def submit(self, chunk: int, trials: list[Trial]) -> None:
        """Send a group to an idle actor."""
        actor = self.idle.pop()
        self.running[actor.run.remote([t.spec() for t in trials])] = (chunk, actor)

    def wait(self, seconds: float) -> list[Event]:
        """Collect answers; an actor that died is replaced."""
        if not self.running:
            return []
        ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        events = []
        for reference in ready:
            chunk, actor = self.running.pop(reference)
            try:
                events.append(Event(chunk, error=self.ray.get(reference)))
            except self.ray.exceptions.RayActorError:
                actor = self._start()
                events.append(Event(chunk, died=True))
            except self.ray.exceptions.RayError as error:
                events.append(Event(chunk, error=str(error).splitlines()[0]))
            self.idle.append(actor)
        return events

    def close(self) -> None:
        """End the actors, and Ray if it was started here."""
        for actor in [*self.idle, *(a for _, a in self.running.values())]:
            self.ray.kill(actor)
        if self.started:
            self.ray.shutdown()
        if self.guardian is not None:
            os.environ.pop(MARK, None)
            self.guardian.communicate()


class _Actor:
    """A process that serves groups, as the local worker does."""

    def __init__(self, message: dict[str, Any]) -> None:
        from experiments.search.workers.execute import make_runner

        self.runner = make_runner(message)

    def run(self, specs: list[dict[str, Any]]) -> str:
        return self.runner(specs)
