"""Run one group of trials: claim them, train them in one program, publish each result."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.search.ledger import Ledger
from experiments.search.problem import Fold, Problem
from experiments.search.schedule import Trial
from experiments.search.space import Space

Result = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a group: the trials that have a result now, and those that another process holds."""

    finished: list[str]
    busy: list[str]


def fold_of(trial: Trial) -> Fold | None:
    """Return (held-out fold, number of folds), None without cross-validation."""
    return (trial.fold, trial.folds) if trial.folds else None


def configure(space: Space, trial: Trial) -> Any:
    """Return the config of a trial. Raises ConfigError when its values do not fit together."""
    return space.configure(trial.values, trial.seed, trial.budget)


def failure(error: BaseException) -> Result:
    """Return the result of a trial that raised: the type and the first line of its message."""
    first = (str(error).strip().splitlines() or [""])[0]
    return {"status": "failed", "reason": f"{type(error).__name__}: {first}"[:300], "metrics": {}}


def judge(row: Mapping[str, Any]) -> Result:
    """Return the result of a trial that ended: ok, or diverged when a metric is not finite."""
    metrics = {k: float(v) for k, v in row.items() if k != "reason"}
    bad = [f"{k} is {v}" for k, v in metrics.items() if not math.isfinite(v)]
    reason = str(row.get("reason") or (", ".join(bad[:3])))
    return {"status": "diverged" if reason else "ok", "reason": reason, "metrics": metrics}


def run_trials(problem: Problem, space: Space, trials: Sequence[Trial]) -> list[tuple[Result, float]]:
    """Return (result, seconds) per trial of one group; a group that raises is run again one by one."""
    start = time.perf_counter()
    try:
        configs = [configure(space, t) for t in trials]
        rows = problem.run_group(configs, fold_of(trials[0]))
        if len(rows) != len(trials):
            raise ValueError(f"the group returned {len(rows)} results for {len(trials)} trials")
        results = [judge(row) for row in rows]
    except Exception as error:
        if len(trials) > 1:
            return [pair for t in trials for pair in run_trials(problem, space, [t])]
        results = [failure(error)]
    seconds = (time.perf_counter() - start) / len(trials)
    return [(result, seconds) for result in results]


def run_chunk(problem: Problem, space: Space, ledger: Ledger, trials: Sequence[Trial]) -> Outcome:
    """Claim what is free of a group, run it and publish it. Raises OSError when the ledger cannot be written."""
    held = ledger.claim([t.key for t in trials])
    by_key = {t.key: t for t in trials}
    mine = [by_key[lease.key] for lease in held]
    if mine:
        with ledger.heartbeat(held):
            results = run_trials(problem, space, mine)
        rows = zip(held, mine, results, strict=True)
        ledger.publish_all([(lease, trial.spec(), result, seconds) for lease, trial, (result, seconds) in rows])
    finished = [t.key for t in trials if (ledger.trials / f"{t.key}.json").exists()]
    return Outcome(finished, [k for k in by_key if k not in set(finished)])
