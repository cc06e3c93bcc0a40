"""Progress of a sweep: trials done and running, the best point so far with its interval, the time left."""

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from experiments.search.proposals.schedule import SweepPlan
from experiments.search.record.ledger import Record
from experiments.search.report.table import best, describe_point, points_of
from experiments.search.sweep import State
from training.cli.progress import clock, live_bar

IMPORTED = time.monotonic()
QUIET = 15.0  # seconds between lines when the output is not a terminal


def expected_trials(plan: SweepPlan) -> int:
    """Return how many runs a plan makes, a little more than that for asha (whose promotions depend on results)."""
    runs, alive = 0, plan.trials
    for _ in range(max(len(plan.budgets), 1)):
        runs += alive
        alive //= plan.eta
    return runs * plan.seeds * max(plan.folds, 1)


def process_age() -> float:
    """Return the seconds since this process began, the start of Python included; since this import elsewhere."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError, IndexError):
        return time.monotonic() - IMPORTED


class SweepProgress(contextlib.AbstractContextManager["SweepProgress"]):
    """Call it with each State. On a terminal one live line; elsewhere a plain line now and then."""

    def __init__(self, plan: SweepPlan) -> None:
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

    def __enter__(self) -> "SweepProgress":
        if sys.stderr.isatty():
            self.bar, self.task = live_bar(sys.stderr, self.total, 0, "starting")
            self.bar.start()
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
        self.running, self.last = state.running, now
        if state.new or not self.best:
            found = best(points_of(self.records, self.plan), self.plan)
            self.best = describe_point(found, self.plan.objectives[0]) if found else ""
        text, total = self.line(state, now - self.start), max(self.total, state.finished)
        if self.bar is not None:
            count = f"{state.finished}/{total}"
            self.bar.update(self.task, completed=state.finished, total=total, description=count, text=text)
        else:
            with contextlib.suppress(OSError):  # nobody reads: the sweep goes on
                print(f"{state.finished}/{total} trials, {text}", file=sys.stderr, flush=True)

    def line(self, state: State, elapsed: float) -> str:
        """Return the words beside the bar."""
        here = self.done_here
        words = [f"{state.running} running"]
        words += [f"{self.failed} failed"] if self.failed else []
        words += [f"{clock(elapsed / here * max(self.total - state.finished, 0))} left"] if here else []
        words += [f"best {self.best}"] if self.best else []
        return ", ".join(words)
