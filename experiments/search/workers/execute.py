"""Run one group of trials: claim them, train them in one program, publish each result."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from experiments.search.problem import Fold, SweepProblem, load_problem
from experiments.search.proposals.schedule import Trial
from experiments.search.record.ledger import Ledger
from experiments.search.space.space import Space, parse_space
from experiments.search.workers.affinity import take_core
from models.config import from_dict

Result = dict[str, Any]


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
    words = {k: dict(row[k]) for k in ("units", "not_measured") if row.get(k)}
    metrics = {k: float(v) for k, v in row.items() if k not in ("reason", "units", "not_measured")}
    bad = [f"{k} is {v}" for k, v in metrics.items() if not math.isfinite(v)]
    reason = str(row.get("reason") or (", ".join(bad[:3])))
    return {"status": "diverged" if reason else "ok", "reason": reason, "metrics": metrics} | words


def run_trials(
    problem: SweepProblem, space: Space, trials: Sequence[Trial], width: int
) -> Iterator[tuple[Result, float]]:
    """Yield (result, seconds) per trial of one group, in order, as they end.

    When a group raises, the trials without a result are run again one by one, so that a bad one names itself.
    """
    start, done = time.perf_counter(), 0
    try:
        rows = problem.run_group([configure(space, t) for t in trials], fold_of(trials[0]), width)
        share = (time.perf_counter() - start) / len(trials)
        whole = isinstance(rows, list)
        for row in rows:
            now = time.perf_counter()
            yield judge(row), share if whole else now - start
            start, done = now, done + 1
        if done != len(trials):
            raise ValueError(f"the group returned {done} results for {len(trials)} trials")
    except Exception as error:
        if len(trials) == 1 and done == 0:
            yield failure(error), time.perf_counter() - start
        for trial in trials[done:] if len(trials) > 1 else ():
            yield from run_trials(problem, space, [trial], width)


def run_chunk(problem: SweepProblem, space: Space, ledger: Ledger, trials: Sequence[Trial], width: int = 8) -> None:
    """Claim what is free of a group, run it and publish it. Raises OSError when the ledger cannot be written.

    Results are published as they come, those that come within a fifth of a second together.
    """
    held = ledger.claim([t.key for t in trials])
    by_key = {t.key: t for t in trials}
    mine = [by_key[lease.key] for lease in held]
    if not mine:
        return
    with ledger.heartbeat(held):
        waiting, last = [], time.perf_counter()
        for lease, trial, (result, seconds) in zip(held, mine, run_trials(problem, space, mine, width), strict=True):
            waiting.append((lease, trial.spec(), result, seconds))
            if time.perf_counter() - last > 0.2:
                ledger.publish_all(waiting)
                waiting, last = [], time.perf_counter()
        ledger.publish_all(waiting)


def make_runner(hello: dict[str, Any]) -> Callable[[list[dict[str, Any]]], str]:
    """Return the function that runs a group for the sweep that `hello` describes (see `engine.Greeting.message`).

    It returns an error that ends the sweep, or "": an error of a trial is that trial's result.
    """
    take_core(hello["number"])
    if hello["data_dir"]:
        os.environ["AUTOENCODERS_DATA"] = hello["data_dir"]
    problem = load_problem(hello["problem"])
    space = parse_space(from_dict(type(problem.config), hello["base"]), hello["texts"])
    ledger = Ledger(hello["folder"], hello["patience"])

    def run(specs: list[dict[str, Any]]) -> str:
        try:
            run_chunk(problem, space, ledger, [Trial(**s) for s in specs], hello["width"])
        except OSError as error:
            return f"cannot write in {ledger.folder}: {error.strerror or error}"
        return ""

    return run
