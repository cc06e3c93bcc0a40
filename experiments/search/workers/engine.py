"""What an engine is: it carries groups of trials to processes and tells what became of them.

The record is the ledger, so an engine may lose any message, worker or itself without losing a trial.
"""

import abc
import dataclasses
import os
from pathlib import Path
from typing import Any

from experiments.search.proposals.schedule import Trial

ROOT = Path(__file__).resolve().parents[3]


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

    def message(self, number: int) -> dict[str, Any]:
        """Return it as JSON values, with the worker's number and the process it must not outlive."""
        return {**dataclasses.asdict(self), "number": number, "parent": os.getpid()}


@dataclasses.dataclass(frozen=True)
class Event:
    """The end of a group: the worker answered, its process is gone (died), or the sweep cannot go on (error)."""

    chunk: int
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


def python_path() -> str:
    """Return PYTHONPATH for workers: they import this checkout wherever they are started."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
