"""The coordinator: runs the generations of a schedule on an engine, over a ledger."""

import collections
import contextlib
import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.search.proposals.sampler import Sampler, Score
from experiments.search.proposals.schedule import SweepPlan, Trial, schedule
from experiments.search.record.lease import newest
from experiments.search.record.ledger import Ledger, LedgerError, Record
from experiments.search.space.domains import SpaceError
from experiments.search.space.space import Space
from experiments.search.workers.engine import Engine
from experiments.search.workers.execute import configure, failure, fold_of
from models.config import ConfigError, nearest

MOST_DEATHS = 5  # a trial that was being run alone this often when its worker died is given up


class SweepError(RuntimeError):
    """The sweep cannot go on; what is finished is in the ledger. The message is one line."""


@dataclasses.dataclass(frozen=True)
class State:
    """What a progress display shows: trials of the generations so far, and the newest records."""

    known: int
    finished: int
    running: int
    new: Sequence[Record]


def chunks(space: Space, trials: Sequence[Trial], size: int) -> list[list[Trial]]:
    """Split trials into groups that share a program, at most `size` each: equal structure of config, equal fold."""
    from experiments.running.group import grouped

    configs: list[Any] = []
    for trial in trials:
        try:
            configs.append(configure(space, trial))
        except ConfigError:
            configs.append(None)  # it fails on its own, and says why
    lone = [t.key if c is None else "" for t, c in zip(trials, configs, strict=True)]
    groups = grouped(configs, list(zip(lone, map(fold_of, trials), strict=True)))
    return [[trials[i] for i in part[k : k + size]] for part in groups for k in range(0, len(part), size)]


class Coordinator:
    """Runs trials until each has a result, whatever happens to workers."""

    def __init__(
        self,
        plan: SweepPlan,
        space: Space,
        ledger: Ledger,
        engine: Engine,
        size: int,
        workers: int,
        report: Callable[[State], None],
    ) -> None:
        self.plan, self.space, self.ledger, self.engine = plan, space, ledger, engine
        self.size, self.workers, self.report = size, workers, report
        self.records: dict[str, Record] = {}
        self.known = 0
        self.deaths: collections.Counter[str] = collections.Counter()
        self.begun: dict[str, int] = {}
        self.ids = itertools.count()

    def run(self, trials: Sequence[Trial]) -> list[Record]:
        """Return the records of a generation, running what has none. Raises SweepError when an engine cannot."""
        self.known += len(trials)
        missing = self._collect(trials)
        while missing:
            self._pass(missing)
            missing = self._collect([t for t in trials if t.key not in self.records])
            if missing:
                time.sleep(0.2)  # held by another process, or by a worker that died a moment ago
        return [self.records[t.key] for t in trials]

    def _collect(self, trials: Sequence[Trial], running: int = 0) -> list[Trial]:
        """Read the results there are and return the trials without one."""
        finished = self.ledger.finished()
        new = []
        for trial in trials:
            if trial.key not in finished or trial.key in self.records:
                continue
            record = self.ledger.read(trial.key)
            if record is None:
                continue
            if record["spec"] != json.loads(json.dumps(trial.spec())):
                raise LedgerError(
                    f"trial {trial.key} of the ledger has other values than this version proposes: "
                    "the sampler's package has changed; finish the sweep with the versions it was begun with"
                )
            check_metrics(self.plan, record)
            self.records[trial.key] = record
            new.append(record)
        self.report(State(self.known, len(self.records), running, new))
        return [t for t in trials if t.key not in self.records]

    def _pass(self, missing: Sequence[Trial]) -> None:
        """Give every missing trial to the engine once."""
        size = min(self.size, -(-len(missing) // self.workers))  # no worker idles beside a large group
        todo = collections.deque(chunks(self.space, missing, size))
        running: dict[int, list[Trial]] = {}
        while todo or running:
            while todo and self.engine.room():
                number = next(self.ids)
                running[number] = todo.popleft()
                self.engine.submit(number, running[number])
            busy = sum(t.key not in self.records for group in running.values() for t in group)
            self.report(State(self.known, len(self.records), busy, ()))
            events = self.engine.wait(0.5)
            if not events and running:  # long trials show as they end, before their group does
                self._collect([t for group in running.values() for t in group], busy)
            for event in events:
                if event.error:
                    raise SweepError(event.error)
                group = running.pop(event.chunk)
                left = self._collect(group, busy - len(group))
                if event.died:
                    todo.extend([t] for t in self._after_death(left, alone=len(group) == 1))

    def _after_death(self, left: list[Trial], alone: bool) -> list[Trial]:
        """Return what to try again, one by one; a trial whose worker always dies is recorded as failed."""
        if not alone:
            return left
        for trial in left:
            number = newest(self.ledger.trials, trial.key)
            if number == self.begun.get(trial.key, 0):
                continue  # the worker died before it began this trial
            self.begun[trial.key] = number
            self.deaths[trial.key] += 1
            if self.deaths[trial.key] >= MOST_DEATHS:
                result = failure(RuntimeError(f"the worker died {MOST_DEATHS} times"))
                for lease in self.ledger.claim([trial.key]):
                    self.ledger.publish(lease, trial.spec(), result)
                self._collect([trial])
        return [t for t in left if t.key not in self.records]


def check_metrics(plan: SweepPlan, record: Record) -> None:
    """Raise SweepError when a trial that went well does not report a metric of the plan: the first one tells."""
    known = record["result"]["metrics"]
    absent = [m for m in plan.objectives if m not in known]
    if absent and record["result"]["status"] == "ok":
        hint = f"did you mean {nearest(absent[0], known)[0]}? " if nearest(absent[0], known) else ""
        raise SweepError(f"no metric {absent[0]!r}; {hint}the trials report {', '.join(sorted(known))}")


def scores_of(plan: SweepPlan, records: Sequence[Record]) -> list[Score]:
    """Return the scores of records; None where a run failed or diverged."""
    scores: list[Score] = []
    for record in records:
        result = record["result"]
        if result["status"] != "ok":
            scores.append(None)
            continue
        scores.append(plan.score({k: float(v) for k, v in result["metrics"].items()}))
    return scores


def run_sweep(
    plan: SweepPlan,
    space: Space,
    sampler: Sampler,
    ledger: Ledger,
    engine: Engine,
    *,
    size: int = 8,
    workers: int = 1,
    report: Callable[[State], None] = lambda state: None,
) -> list[Record]:
    """Run the plan to its end and return the records, sorted by trial key. What is in the ledger is not repeated."""
    coordinator = Coordinator(plan, space, ledger, engine, size, workers, report)
    steps = schedule(plan, sampler)
    trials = next(steps)
    with contextlib.suppress(StopIteration):
        while True:
            trials = steps.send(scores_of(plan, coordinator.run(trials)))
    return [coordinator.records[key] for key in sorted(coordinator.records)]


def fingerprint(plan: SweepPlan, space: Space, problem: str) -> dict[str, Any]:
    """Return what decides the trials of a sweep, and with them its table.

    The number of trials is not part of it unless halving compares them, so a sweep can be made longer; nor is the
    metric where no proposal depends on it.
    """
    options: dict[str, Any] = dataclasses.asdict(plan)
    if plan.halving == "none":
        options.pop("trials")
        if plan.sampler in ("random", "sobol", "grid"):
            for name in ("minimize", "maximize", "generation", "eta"):
                options.pop(name)
    return {"problem": problem, "plan": options, **space.fingerprint()}


def check_seeds(plan: SweepPlan, base: Any, fields: Mapping[str, Any]) -> None:
    """Raise SpaceError when repeated seeds cannot be made, or the budget's field is not an int or is searched too."""
    if plan.seeds > 1 and not isinstance(getattr(base, "seed", None), int):
        raise SpaceError("--seeds needs a config with an int field seed")
    if plan.seeds > 1 and "seed" in fields:
        raise SpaceError("--seeds repeats every point with other seeds, so the field seed cannot be searched as well")
    if plan.budgets and plan.budget_field in fields:
        raise SpaceError(f"{plan.budget_field} is the budget of halving and cannot be searched as well")
