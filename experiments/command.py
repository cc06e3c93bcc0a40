"""The command line of every table and study: run it, print it, write its JSON and figures.

A file states claim, source, command, cost, expected numbers and caveats in its docstring, and defines `TABLE` or
`STUDY`. Seeds are common to all rows, so that differences between rows are paired.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from data import DataError
from experiments.reporting import plots, report
from experiments.reporting.words import describe, shelf
from experiments.running import run_table, store
from experiments.running.listed import listed, options_of
from experiments.running.study import Study, run_study
from experiments.running.table import Table
from models.config import ConfigError
from training import RunError
from training.store.environment import cores
from training.store.trial import best_row

FLAG = "--xla_force_host_platform_device_count"


def use_all_cores() -> None:
    """Ask XLA for one CPU device per core, where it would give one to all; call before anything of JAX has run.

    A count that the user put in XLA_FLAGS stays. On other platforms the flag changes nothing.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {FLAG}={cores()}".strip()


def parse(table: Table | Study, name: str, argv: list[str]) -> argparse.Namespace:
    """Return the options of a table's command line; exit with code 2 and one line for bad ones."""
    parser = argparse.ArgumentParser(f"python -m experiments {name}", description=describe(shelf()[name]).title)
    parser.add_argument("--profile", choices=list(table.profiles), default="cpu", help="the protocol (default: cpu)")
    parser.add_argument("--seeds", type=int, help="runs per row, seeds 0..N-1 (default: the profile's)")
    parser.add_argument("--data-dir", help="folder of data files, one subfolder per set")
    parser.add_argument("--results", type=Path, default=None, help="folder to write to (default: experiments/results)")
    options_of(parser.add_argument, "every row's")
    parser.add_argument("--plan", default="auto", help="how rows run: auto (measured), rows, sequential, map, vmap")
    options = parser.parse_args(argv)
    if options.seeds is not None and options.seeds < 1:
        parser.exit(2, f"{parser.prog}: --seeds must be at least 1, got {options.seeds}\n")
    if options.plan not in ("auto", "rows", "sequential", "map", "vmap"):
        parser.exit(2, f"{parser.prog}: --plan must be auto, rows, sequential, map or vmap, got {options.plan!r}\n")
    if options.metrics and isinstance(table, Study):
        parser.exit(2, f"{parser.prog}: rows of a study say what they measure: --metrics is for tables\n")
    if options.results is None:
        options.results = store.SCRATCH if options.profile == "smoke" else store.RESULTS
    return options


def train_line(path: Path, row: str, data_dir: str | None) -> str:
    """Return the command that trains a row of a table by itself, with its first seed."""
    place = path.resolve()
    shown = place.relative_to(store.ROOT) if place.is_relative_to(store.ROOT) else path
    where = ["--data-dir", data_dir] if data_dir else []
    return shlex.join(["python", "train.py", "--from-trial", f"{shown}:{row}", *where])


def main(table: Table | Study, name: str, argv: list[str]) -> int:
    """Run a table or study; return the exit code: 0, 1 for data or files, 2 for a bad option, 130 when interrupted."""
    use_all_cores()
    options = parse(table, name, argv)
    folder = options.results
    try:
        path, given = shelf()[name], (name, options.profile, options.seeds, options.data_dir, folder)
        pictures: Any
        if isinstance(table, Study):
            record, pictures = run_study(table, *given, own=path.relative_to(store.ROOT).as_posix())
        else:
            record, pictures = run_table.run_table(table, *given, options.plan, listed(options))
        words = describe(path)
        command = shlex.join(["python", "-m", "experiments", name, *argv])
        record = record | {"title": words.title, "claim": words.claim, "source": words.source, "command": command}
        record |= {"caveats": words.caveats} if words.caveats else {}
        if isinstance(table, Table) and (best := best_row(record)) is not None:
            record["train"] = train_line(folder / f"{name}.json", best, options.data_dir)
        record["figures"] = plots.write_all(table, folder, record, pictures)
        store.write_result(folder / f"{name}.json", record)
    except (ConfigError, DataError, RunError) as error:
        print(f"experiments {name}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) and not isinstance(error, DataError) else 1
    except KeyboardInterrupt:
        print(f"experiments {name}: interrupted; the same command continues it", file=sys.stderr)
        return 130
    store.Finished(folder / ".partial" / f"{name}-{options.profile}").clear()
    print(report.text(record))
    print(f"written: {folder / name}.json and {', '.join(record['figures']) or 'no figure'}")
    return 0
