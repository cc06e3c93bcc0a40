"""Run a table: group its runs, take up what is finished, add the baselines, return one record of it all."""

import dataclasses
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.running import group, store
from experiments.running.listed import columns_of
from experiments.running.reconstructions import PICTURES
from experiments.running.table import Pca, Row, Table, rows_of
from models.config import to_dict
from models.linear import pca
from train import Config
from training.examples import scale


class TableRun(NamedTuple):
    """One run of a table."""

    row: str
    seed: int
    config: Config
    what: Row


def jobs_of(rows: Mapping[str, Row], seeds: int) -> list[list[TableRun]]:
    """Return all runs, those that share a program together."""
    jobs = [
        TableRun(name, seed, dataclasses.replace(row.run, seed=seed), row)
        for name, row in rows.items()
        if isinstance(row.run, Config)
        for seed in range(seeds)
    ]
    groups = group.grouped([job.config for job in jobs], [str(job.what.facts) for job in jobs])
    return [[jobs[i] for i in positions] for positions in groups]


def run_jobs(
    table: Table, groups: list[list[TableRun]], finished: store.Finished, data_dir: str | None, plan: str
) -> Iterator[tuple[TableRun, dict[str, Any]]]:
    """Yield (job, result), first those that an earlier, unfinished call left behind."""
    for jobs in groups:
        first = jobs[0]
        dataset = group.data_of(first.config, data_dir)[1]
        facts = [dataset.sha256, first.what.facts, table.seen]
        missing = []
        for job in jobs:
            found = finished.get([to_dict(job.config), *facts])
            if found is None:
                missing.append(job)
            else:
                yield job, found | {"resumed": True}
        if not missing:
            continue
        configs = [job.config for job in missing]
        what = first.what
        for i, found in group.iterate_group(
            configs, data_dir, what.examples, table.seen, plan, what.known, what.measures
        ):
            derive(found, math.prod(dataset.shape))
            pictures = np.round(found["pictures"].astype(float), 3)
            finished.put([to_dict(configs[i]), *facts], found | {"pictures": pictures})
            yield missing[i], found


def derive(found: dict[str, Any], values: int) -> None:
    """Add the squared error summed over an example's values, labels inferred wrongly, and the gap to seen examples."""
    parts = [found["test"], *([found["seen"]] if "seen" in found else [])]
    for part in parts:
        if "mse" in part:
            part["squared_error"] = part["mse"] * values
        if "accuracy" in part:
            part["wrong_percent"] = 100 * (1 - part["accuracy"])
    validation = found["history"].get("validation", {})
    if "mse" in validation:
        validation["squared_error"] = [v * values for v in validation["mse"]]
    if "seen" in found:
        for name in list(found["test"]):
            if name in found["seen"]:
                found["test"][f"gap_{name}"] = found["test"][name] - found["seen"][name]
                found["test"][f"seen_{name}"] = found["seen"][name]


def baseline(run: Pca, data_dir: str | None) -> dict[str, Any]:
    """Return PCA's test metrics, and its pictures; exact, so it has no seeds."""
    splits, dataset = group.data_of(Config(dataset=run.dataset, batch_size=1), data_dir)
    flat = {
        part: np.asarray(scale(splits[part].x, splits[part].range), np.float64).reshape(len(splits[part]), -1)
        for part in ("train", "test")
    }
    found = np.asarray(pca(flat["train"], run.dims).reconstruct(flat["test"]))
    gap = flat["test"] - found
    mse = float(np.mean(gap**2))
    test = {"mse": mse, "rmse": math.sqrt(mse), "mae": float(np.mean(np.abs(gap)))}
    return {
        "test": test | {"squared_error": mse * flat["test"].shape[1]},
        "pictures": found[:PICTURES].reshape(-1, *dataset.shape).astype(np.float32),
    }


def run_table(
    table: Table,
    name: str,
    profile: str,
    seeds: int | None = None,
    data_dir: str | None = None,
    folder: Path = store.RESULTS,
    plan: str = "auto",
    more: tuple[Any, ...] = (),
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Run what is missing of a table; return its record (JSON-ready) and pictures of seed 0 by row.

    more: metrics of the list (`listed.Listed`) of every row, beside the measures of its own, as further columns.

    Pictures hold the originals under "original", where all rows share their data. Raises ConfigError,
    data.DataError, training.RunError.
    """
    chosen = table.profiles[profile]
    rows, seeds = rows_of(table, chosen), seeds or chosen.seeds
    rows = {n: r._replace(measures=(*r.measures, *more)) if isinstance(r.run, Config) else r for n, r in rows.items()}
    groups = jobs_of(rows, seeds)
    finished = store.Finished(folder / ".partial" / f"{name}-{profile}")
    begin, before, compiled = time.monotonic(), 0.0, group.compilations()
    found: dict[str, dict[int, dict[str, Any]]] = {row: {} for row in rows}
    for row, what in rows.items():
        if isinstance(what.run, Pca):
            found[row][0] = baseline(what.run, data_dir)
    total = sum(map(len, groups))
    for done, (job, result) in enumerate(run_jobs(table, groups, finished, data_dir, plan), 1):
        found[job.row][job.seed] = result
        before += result["seconds"] if result.get("resumed") else 0.0
        announce(table, job, result, done, total)
    runs = [result for by_seed in found.values() for result in by_seed.values()]
    units = {name: unit for run in runs for name, unit in run.get("units", {}).items()}
    record = {
        "name": name,
        "profile": profile,
        "metric": table.metric,
        "columns": list(dict.fromkeys([*table.columns, *columns_of(more, units)])),
        "differs": chosen.differs,
        "seeds": list(range(seeds)),
        "rows": {row: row_record(table, rows[row], found[row]) for row in rows},
        "programs": group.compilations() - compiled,
        **store.provenance(time.monotonic() - begin + before),
        "data": {job.config.dataset: data_record(job.config, data_dir) for jobs in groups for job in jobs[:1]},
    }
    if units or any(run.get("not_measured") for run in runs):
        record |= {"units": units, "not_measured": reasons_of(found)}
    pictures = {row: np.asarray(by_seed[0]["pictures"], np.float32) for row, by_seed in found.items()}
    return record, {"original": originals(groups, data_dir)} | pictures


def reasons_of(found: Mapping[str, Mapping[int, dict[str, Any]]]) -> dict[str, list[str]]:
    """Return {"metric: why": the rows that could not have it}."""
    out: dict[str, list[str]] = {}
    for row, by_seed in found.items():
        for run in by_seed.values():
            for name, why in run.get("not_measured", {}).items():
                rows = out.setdefault(f"{name}: {why}", [])
                rows.extend([row] * (row not in rows))
    return out


def announce(table: Table, job: TableRun, result: dict[str, Any], done: int, total: int) -> None:
    """Print a line for a finished run on stderr."""
    what = "taken up" if result.get("resumed") else f"{result['seconds']:.1f} s"
    value = result["test"][table.metric]
    bad = f", diverged at step {result['diverged']['step']}" if result["diverged"] else ""
    line = f"[{done}/{total}] {job.row}, seed {job.seed}: {table.metric} {value:.5g} ({what}{bad})"
    print(line, file=sys.stderr, flush=True)


def data_record(config: Config, data_dir: str | None) -> dict[str, Any]:
    """Return the facts of a run's data set: source, splits, SHA-256 of its files."""
    return group.data_of(config, data_dir)[1].record()


def originals(groups: list[list[TableRun]], data_dir: str | None) -> np.ndarray:
    """Return the first test examples of the first group, as a model sees them."""
    config = groups[0][0].config
    test = group.data_of(config, data_dir)[0]["test"]
    return np.asarray(test.take(jax.numpy.arange(min(PICTURES, len(test)))), np.float32)


def row_record(table: Table, row: Row, by_seed: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """Return a row's part of the record: its config, the paper's number, bound, metrics of every seed, curves."""
    runs = [by_seed[seed] for seed in sorted(by_seed)]
    out: dict[str, Any] = {"paper": row.paper, "bound": row.bound, "differs": row.differs}
    names = dict.fromkeys(name for run in runs for name in run["test"])
    out["metrics"] = {name: [run["test"].get(name, math.nan) for run in runs] for name in names}
    if isinstance(row.run, Pca):
        return out | {"exact": True, "config": {"kind": "Pca", **row.run._asdict()}}
    shown = runs[0]["history"]["validation"]
    curve = next(name for name in (table.metric, "negative_elbo_nats", "mse", "objective") if name in shown)
    return out | {
        "config": to_dict(dataclasses.replace(row.run, seed=0)),
        "examples": row.examples,
        "known": row.known and row.known._asdict(),
        "measures": [str(measure) for measure in row.measures],
        "epochs": [run["epochs"] for run in runs],
        "best_epoch": [run["best_epoch"] for run in runs],
        "diverged": [run["diverged"] for run in runs],
        "seconds": [round(run["seconds"], 2) for run in runs],
        "plan": runs[0]["plan"],
        "curve": {curve: [[float(f"{v:.5g}") for v in run["history"]["validation"][curve]] for run in runs]},
        "loss": [[float(f"{v:.5g}") for v in run["history"]["train"]["loss"]] for run in runs],
    }
