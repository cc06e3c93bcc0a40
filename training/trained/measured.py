"""Metrics of a trained run (`models.metrics`) on its own data, kept in its folder: `evaluation.json`."""

import datetime
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

FILE = "evaluation.json"


def measured(command: Any, path: Path, load_run: Callable[[Path], Any]) -> int:
    """Measure what `--metrics` names of the run that has ended, on its test split; print and keep the numbers.

    As `python -m experiments.evaluate RUN --metrics ...` does; returns the exit code, 1 where nothing was measured.
    """
    if not command.metrics:
        return 0
    import jax

    from data import DataError
    from models.config import ConfigError
    from models.metrics import Subject
    from training.store.errors import RunError

    try:
        run = load_run(path)
        inputs = own_data(run, command.data_dir)
        parts = shown_splits(run, inputs, [name for name in inputs.splits if name in ("train", "test")])
        names = inputs.dataset.factor_names
        more = {"factor_names": names, "folder": run.path, "ratings": inputs.dataset.ratings, "matched": run.matched}
        subject = Subject(run.model, parts["test"], parts.get("train"), **more)
        with jax.default_matmul_precision(run.config.matmul_precision):
            lines, code = report(subject, command.metrics, conditions(run, subject, "test"), run.path / FILE)
    except (ConfigError, DataError, RunError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return code


def report(subject: Any, names: Any, of: Mapping[str, Any], out: Path) -> tuple[list[str], int]:
    """Measure (all cheap metrics where `names` is none), keep the numbers in `out`; return lines and the exit code."""
    from models.metrics import registry

    found, reasons = registry.measure(subject, names)
    notes = keep(out, of, found, reasons, subject.samples)
    refused = [f"{name}: not measured: {why}" for name, why in reasons.items()]
    return [*(table(found) if found else []), *refused, *notes, f"written: {out}"], 0 if found else 1


def own_data(run: Any, data_dir: str | None) -> Any:
    """Return the run's own data, loaded again. Raises ConfigError where they are not those that it was trained on."""
    from data import DataError
    from models.config import ConfigError
    from training.inputs import load_inputs

    try:
        inputs = load_inputs(run.config, data_dir or recorded_folder(run))
    except DataError as error:
        raise ConfigError(f"{error}; or give the examples with --data FILE") from None
    was, now = run.facts.record.get("sha256"), inputs.dataset.record()["sha256"]
    if was and was != now:
        raise ConfigError(f"{run.facts.name} is not what it was when the run was trained: give examples with --data")
    return inputs


def recorded_folder(run: Any) -> str | None:
    """Return the --data-dir that the run was trained with, None where it is not recorded or gone."""
    from training.store.schema import CONFIG, read_json

    folder = read_json(run.path / "config.json", CONFIG).get("data_dir")
    return folder if folder and Path(folder).is_dir() else None


def shown_splits(run: Any, inputs: Any, names: Any) -> dict[str, Any]:
    """Return the examples of splits of a run's data as its model sees them, by name."""
    return {name: shown(inputs.splits, inputs.dataset, name, run.config.binarise) for name in names}


def shown(splits: Mapping[str, Any], dataset: Any, part: str, how: Any = "none") -> Any:
    """Return the examples of a split as a model sees them; dynamic binarisation draws each once, by a fixed key."""
    import jax
    import jax.numpy as jnp

    from models.metrics import Shown
    from training.examples import binarise

    batch = splits[part].batch(jnp.arange(len(splits[part])))
    batch = batch._replace(x=binarise(batch.x, how, jax.random.key(0)))
    split = dataset.splits.get(part)
    return Shown(jax.tree.map(np.asarray, batch), split and split.y, split and split.factors)


def conditions(run: Any, subject: Any, split: str | None, file: str | None = None) -> dict[str, Any]:
    """Return what numbers depend on beside their metric: two evaluations under the same conditions are one."""
    from flax import nnx

    from training import params_sha256

    return {
        "params_sha256": params_sha256(nnx.state(run.model, nnx.Param)),
        "data": str(Path(file).resolve()) if file else run.facts.name,
        "split": None if file else split,
        "examples": subject.test.size,
        "seed": subject.seed,
    }


def keep(
    path: Path,
    of: Mapping[str, Any],
    found: Mapping[str, Mapping[str, Any]],
    reasons: Mapping[str, str],
    samples: int,
) -> list[str]:
    """Write the numbers into `path` beside those that are there; return a line for every number that changes.

    Numbers under other conditions stay beside the new ones; those of other metrics are never touched. Raises RunError
    for a file that is no evaluation.
    """
    from training.store.files import json_ready, write_json
    from training.store.lock import FolderLock
    from training.store.schema import read_json

    lock = FolderLock(path.parent)
    try:
        there = (
            read_json(path, {"evaluations": [{"of": {str: object}, "metrics": {str: object}}]}) if path.exists() else {}
        )
        blocks = there.get("evaluations", [])
        block = next((b for b in blocks if b["of"] == json_ready(of)), None)
        if block is None:
            block = {"of": dict(of), "metrics": {}, "not_measured": {}}
            blocks.append(block)
        lines = []
        for name, numbers in found.items():
            new: Any = {
                "date": datetime.date.today().isoformat(),
                "samples": samples if name in ("log_likelihood",) else None,
                "numbers": {
                    k: {"value": m.value, "unit": m.unit, "standard_error": m.error} for k, m in numbers.items()
                },
            }
            old = block["metrics"].get(name)
            if old is not None and old["numbers"] != json_ready(new["numbers"]):
                lines.append(f"replaced in {path.name}: {name} of {old['date']}, measured under the same conditions")
            block["metrics"][name] = new
        block["not_measured"] = {k: v for k, v in block.get("not_measured", {}).items() if k not in found} | dict(
            reasons
        )
        write_json(path, {"evaluations": blocks})
    finally:
        lock.release()
    return lines


def table(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of a table: number, value, unit, standard error; of lists how many and from where to where."""
    rows = [("number", "value", "unit", "standard error")]
    for numbers in found.values():
        for name, m in numbers.items():
            if isinstance(m.value, list):
                ends = f"{min(m.value):.4g} to {max(m.value):.4g}" if m.value else "none"
                error = f"at most {max(m.error):.2g}" if isinstance(m.error, list) and m.error else ""
                rows.append((f"{name} ({len(m.value)})", ends, m.unit, error))
            else:
                rows.append((name, f"{m.value:.6g}", m.unit, "" if m.error is None else f"{m.error:.2g}"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
