"""Progress of a sweep: trials done and running, the best point so far with its interval, the time left."""

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from experiments.search.proposals.schedule import Plan
from experiments.search.record.ledger import Record
from experiments.search.report.table import best, describe_point, points_of
from experiments.search.sweep import State

IMPORTED = time.monotonic()
QUIET = 15.0  # seconds between lines when the output is not a terminal


def expected_trials(plan: Plan) -> int:
    """Return how many runs a plan makes, a little more than that for asha (whose promotions depend on results)."""
    runs, alive = 0, plan.trials
    for _ in range(max(len(plan.budgets), 1)):
        runs += alive
        alive = max(alive // plan.eta, 1)
    return runs * plan.seeds * max(plan.folds, 1)


def clock(seconds: float) -> str:
    """Return a duration as 1:02:03 or 2:03."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def process_age() -> float:
    """Return the seconds since this process began, the start of Python included; since this import elsewhere."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError, IndexError):
        return time.monotonic() - IMPORTED


class Progress(contextlib.AbstractContextManager["Progress"]):
    """Call it with each State. On a terminal one live line; elsewhere a plain line now and then."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.total = plan, expected_trials(plan)
        self.records: list[Record] = []
        self.start = self.last = time.monotonic()
        self.at_start: int | None = None  # trials of an earlier run say nothing of this one's speed
        self.best, self.failed = "", 0
        self.running = 0  # as last shown
        self.first: float | None = None  # seconds from the start of this process to its first trial's result
        self.done_here = 0
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
            self.bar = Bar(*columns, console=Console(stderr=True), refresh_per_second=4)
            self.bar.start()
            self.task = self.bar.add_task("starting", total=self.total)
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, state: State) -> None:
        """Show a state."""
        self.records += state.new
        self.failed += sum(r["result"]["status"] != "ok" for r in state.new)
        if self.at_start is None:
            self.at_start = state.finished
        self.done_here = state.finished - self.at_start
        now = time.monotonic()
        due = now - self.last > QUIET
        if self.first is None and self.done_here:
            noticed = time.time() - min(r["timing"]["ended"] for r in state.new)
            self.first, due = process_age() - max(noticed, 0.0), True
        changed = state.new or state.running != self.running
        if not (due or (self.bar is not None and (changed or now - self.last > 0.5))):
            return
        self.running = state.running
        if state.new or not self.best:
            found = best(points_of(self.records, self.plan), self.plan)
            self.best = describe_point(found, self.plan.objectives[0]) if found else ""
        self.last = now
        text = self.line(state, now - self.start)
        if self.bar is not None:
            total = max(self.total, state.finished)
            self.bar.update(self.task, completed=state.finished, total=total, description=text)
        else:
            print(f"{state.finished}/{self.total} trials, {text}", file=sys.stderr, flush=True)

    def line(self, state: State, elapsed: float) -> str:
        """Return the words beside the bar."""
        here = self.done_here
        left = elapsed / here * max(self.total - state.finished, 0) if here else None
        words = [f"{state.running} running"]
        words += [f"{self.failed} failed"] if self.failed else []
        words += [f"{clock(left)} left"] if left is not None else []
        words += [f"best {self.best}"] if self.best else []
        return ", ".join(words)
