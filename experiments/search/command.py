"""What `python -m experiments.search` does: run a sweep, write results.csv and sweep.html."""

import contextlib
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.running.listed import lines_of
from experiments.search.options import Job, parse
from experiments.search.problem import DEFAULT
from experiments.search.record.ledger import Ledger, LedgerError, Record
from experiments.search.report.progress import SweepProgress, process_age
from experiments.search.report.table import (
    TriedPoint,
    best,
    describe_point,
    front,
    not_measured_of,
    points_of,
    to_csv,
    units_of,
)
from experiments.search.stopping import when_stopped
from experiments.search.sweep import SweepError, fingerprint, run_sweep
from experiments.search.workers.choice import make_engine
from experiments.search.workers.engine import Greeting
from models.config import ConfigError, to_dict
from training.store.errors import RunError
from training.store.files import write_json, write_text


def run(job: Job, progress: SweepProgress | None = None) -> list[Record]:
    """Run the sweep of a command line and return its records."""
    o, progress = job.options, progress or SweepProgress(job.plan)
    ledger = Ledger(o.out, o.lease_seconds)
    ledger.open(fingerprint(job.plan, job.space, o.problem), o.resume)
    folder, data = str(Path(o.out).resolve()), str(Path(o.data_dir).resolve()) if o.data_dir else ""
    greeting = Greeting(o.problem, to_dict(job.space.base), job.texts, folder, o.lease_seconds, o.group, data)
    note = lambda: note_session(Path(o.out), job, progress)
    again = shlex.join([*job.words, *([] if o.resume else ["--resume"])])
    with when_stopped(f"stopped; go on with: python -m experiments.search {again}", note):
        engine = make_engine(o.engine, greeting, o.workers)
        try:
            with progress:
                sizes = {"size": o.group, "workers": o.workers}
                records = run_sweep(job.plan, job.space, job.sampler, ledger, engine, **sizes, report=progress)
        finally:
            engine.close()
            note()
            for name in ledger.damaged:
                print(f"damaged trial file {name}: set aside, its trial was run again", file=sys.stderr)
    return records


def note_session(out: Path, job: Job, progress: SweepProgress) -> None:
    """Append a line about this call to sessions.jsonl: when, on what, how soon its first trial ended, how many did."""
    line = {
        "ended": time.time(),
        "engine": job.options.engine,
        "workers": job.options.workers,
        "seconds": round(process_age(), 2),
        "first_trial_seconds": None if progress.first is None else round(progress.first, 2),
        "trials": progress.done_here,
    }
    with contextlib.suppress(OSError), open(out / "sessions.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def write_results(job: Job, records: list[Record]) -> None:
    """Write results.csv and sweep.html into the sweep's folder. Raises training.RunError."""
    from experiments.search.report.page import sweep_page

    out, winner = Path(job.options.out), best(points_of(records, job.plan), job.plan)
    if winner is not None:
        scores = {metric: winner.mean(metric) for metric in job.plan.objectives}
        write_json(out / "best.json", {"trial": winner.key, "metrics": scores})
    write_text(out / "results.csv", to_csv(records, job.space.names))
    write_text(out / "sweep.html", sweep_page(records, job.plan, job.space, train_line(job, winner)))


def train_line(job: Job, point: TriedPoint | None) -> str:
    """Return the command that trains a point by itself; "" where there is none or `train.py` knows no such problem."""
    o = job.options
    if point is None or o.problem.partition("?")[0] != DEFAULT:
        return ""
    where = ["--data-dir", o.data_dir] if o.data_dir else []
    return shlex.join(["python", "train.py", "--from-trial", f"{o.out}:{point.point}", *where])


def summary(job: Job, records: list[Record], first: float | None = None) -> list[str]:
    """Return the lines that end a sweep: counts, the best point or the front, the files.

    first: seconds from the start of the process to its first finished trial.
    """
    points = points_of(records, job.plan)
    bad = [r for r in records if r["result"]["status"] != "ok"]
    lines = [
        f"{len(records)} trials of {len({r['spec']['point'] for r in records})} points, {len(bad)} without a score"
        + (f"; the first after {first:.1f} s" if first else "")
    ]
    if bad:
        lines.append(f"first of them: {bad[0]['key']}: {bad[0]['result']['reason']}")
    winner = best(points, job.plan)
    if len(job.plan.objectives) > 1:
        found = front(points, job.plan)
        lines.append(f"front of {', '.join(job.plan.objectives)}: {len(found)} of {len(points)} points")
    elif winner is not None:
        lines.append(f"best: {describe_point(winner, job.plan.objectives[0])} (point {winner.point})")
        if job.plan.seeds * max(job.plan.folds, 1) == 1:
            lines.append("one run per point: the best of many is too good; add --seeds 5 around it")
    lines += lines_of(units_of(records), not_measured_of(records))
    if line := train_line(job, winner):
        lines.append(f"train it: {line}")
    return [*lines, f"wrote {job.options.out}/results.csv and {job.options.out}/sweep.html"]


def command(words: Sequence[str]) -> int:
    """Return the exit status: 0, 2 for a command line that makes no sense, 1 for what fails later.

    130, 143 and 129 (stopped) are `stopping`'s.
    """
    out = "the folder of the sweep"
    try:
        job = parse(words)
        out = job.options.out
        progress = SweepProgress(job.plan)
        records = run(job, progress)
        write_results(job, records)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (LedgerError, SweepError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot write in {out}: {error.strerror or error}", file=sys.stderr)
        return 1
    print("\n".join(summary(job, records, progress.first)))
    return 0 if any(r["result"]["status"] == "ok" for r in records) else 1
