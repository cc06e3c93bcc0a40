"""`python -m experiments.search`: run a sweep, write results.csv and sweep.html."""

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.search.domains import SpaceError
from experiments.search.engine import Greeting, make_engine
from experiments.search.ledger import Ledger, LedgerError, Record
from experiments.search.options import Job, parse
from experiments.search.progress import Progress
from experiments.search.sweep import SweepError, fingerprint, run_sweep
from experiments.search.table import best, describe_point, front, points_of, to_csv, write_atomic
from models.config import ConfigError, to_dict


def _stop(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(number)


def run(job: Job) -> list[Record]:
    """Run the sweep of a command line and return its records."""
    o = job.options
    if o.data_dir:
        os.environ["AUTOENCODERS_DATA"] = str(Path(o.data_dir).resolve())  # the workers inherit it
    ledger = Ledger(o.out, o.lease_seconds)
    ledger.open(fingerprint(job.plan, job.space, o.problem), o.resume)
    greeting = Greeting(
        o.problem, to_dict(job.space.base), job.texts, str(Path(o.out).resolve()), o.lease_seconds, o.group
    )
    engine = make_engine(o.engine, greeting, o.workers)
    try:
        with Progress(job.plan) as progress:
            records = run_sweep(job.plan, job.space, job.sampler, ledger, engine, size=o.group, report=progress)
    finally:
        engine.close()
        for name in ledger.damaged:
            print(f"damaged trial file {name}: set aside, its trial was run again", file=sys.stderr)
    return records


def write_results(job: Job, records: list[Record]) -> None:
    """Write results.csv and sweep.html into the sweep's folder."""
    from experiments.search.page import sweep_page

    out = Path(job.options.out)
    write_atomic(out / "results.csv", to_csv(records, job.space.names))
    write_atomic(out / "sweep.html", sweep_page(records, job.plan, job.space))


def summary(job: Job, records: list[Record]) -> list[str]:
    """Return the lines that end a sweep: counts, the best point or the front, the files."""
    points = points_of(records, job.plan)
    bad = [r for r in records if r["result"]["status"] != "ok"]
    lines = [
        f"{len(records)} trials of {len({r['spec']['point'] for r in records})} points, {len(bad)} without a score"
    ]
    if bad:
        lines.append(f"first of them: {bad[0]['key']}: {bad[0]['result']['reason']}")
    if len(job.plan.objectives) > 1:
        found = front(points, job.plan)
        lines.append(f"front of {', '.join(job.plan.objectives)}: {len(found)} of {len(points)} points")
    elif (winner := best(points, job.plan)) is not None:
        lines.append(f"best: {describe_point(winner, job.plan.objectives[0])} (point {winner.point})")
        if job.plan.seeds * max(job.plan.folds, 1) == 1:
            lines.append("one run per point: the best of many is too good; add --seeds 5 around it")
    return [*lines, f"wrote {job.options.out}/results.csv and {job.options.out}/sweep.html"]


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, 2 for a command line that makes no sense, 1 for what fails later, 130 if stopped."""
    words = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _stop)
    try:
        job = parse(words)
        records = run(job)
        write_results(job, records)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (LedgerError, SweepError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot write in {job.options.out}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        again = words if "--resume" in words else [*words, "--resume"]
        print(f"stopped; go on with: python -m experiments.search {shlex.join(again)}", file=sys.stderr)
        return 143 if error.args else 130
    print("\n".join(summary(job, records)))
    return 0 if any(r["result"]["status"] == "ok" for r in records) else 1


__all__ = ["SpaceError", "main"]

if __name__ == "__main__":
    sys.exit(main())
