"""Judge a trained run: `python -m experiments.evaluate RUN [--metrics NAME ...] [--data FILE]`.

Prints every number with its unit and standard error, and keeps them in RUN/evaluation.json. Without --metrics: all
metrics of seconds that the model and the data can have; one that they cannot have says why. RUN is a run folder,
wherever it was copied, or an exported one. Examples come from the data set that the run was trained on, or from --data.
"""

import argparse
import datetime
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FILE = "evaluation.json"
SPLITS = ("test", "validation", "train", "all")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    from models.metrics.registry import METRICS

    names = "\n".join(f"  {m.name:<16}{m.about}{'' if m.cheap else ' (only by name)'}" for m in METRICS)
    out = argparse.ArgumentParser(
        prog="python -m experiments.evaluate",
        description=f"{__doc__}\nmetrics:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out.add_argument("run", metavar="RUN", help="run folder, or an exported one")
    out.add_argument("--metrics", nargs="+", metavar="NAME", help="what to measure (default: all of seconds)")
    out.add_argument("--data", metavar="FILE", help="examples to judge on: anything that `--dataset file:` takes")
    out.add_argument("--data-dir", metavar="DIR", help="folder of named data sets (where --data is not given)")
    out.add_argument("--split", choices=SPLITS, default="test", help="examples of the run's data set (test)")
    out.add_argument("--limit", type=int, default=0, help="judge on the first so many examples (0: all)")
    out.add_argument("--samples", type=int, default=5000, help="draws for each example of log_likelihood (5000)")
    out.add_argument("--seed", type=int, default=0, help="of whatever is drawn (0)")
    out.add_argument("--which", choices=("best", "last"), help="checkpoint (default: the one that was tested)")
    out.add_argument("--out", metavar="FILE", help=f"file of the numbers (default: RUN/{FILE})")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parser().parse_args(argv)
    import jax

    import train
    from data import DataError
    from models.config import ConfigError
    from models.metrics import registry
    from training import RunError

    try:
        registry.chosen(options.metrics)  # an unknown name is refused before any work
        for name in ("limit", "samples"):
            if getattr(options, name) < (name == "samples"):
                raise ConfigError(f"--{name} must be at least {int(name == 'samples')}, got {getattr(options, name)}")
        run = train.load_run(options.run, options.which)
        with jax.default_matmul_precision(run.config.matmul_precision):
            subject = subject_of(run, options)
            found, reasons = registry.measure(subject, options.metrics)
        out = Path(options.out or run.path / FILE)
        notes = keep(out, conditions(run, options, subject), found, reasons, options.samples)
    except (ConfigError, DataError, RunError) as error:
        print(f"experiments.evaluate: {error}", file=sys.stderr)
        return 1
    print("\n".join(table(found)))
    for name, why in reasons.items():
        print(f"{name}: not measured: {why}")
    print("\n".join([*notes, f"written: {out}"]))
    return 0 if found else 1


def subject_of(run: Any, options: argparse.Namespace) -> Any:
    """Return the model and the examples that were asked for. Raises ConfigError and DataError."""
    from models.metrics import Subject

    more = {"seed": options.seed, "samples": options.samples, "folder": run.path}
    if options.data:
        return Subject(run.model, cut(from_file(run, options.data), options.limit), **more)
    inputs = own_data(run, options.data_dir)
    parts = {name: shown(run, inputs, name) for name in inputs.splits}
    if options.split in parts:
        test = parts[options.split]
    else:
        test = together([parts[name] for name in inputs.splits]) if options.split == "all" else None
    if test is None:
        from models.config import ConfigError

        raise ConfigError(f"split {options.split} is streamed from disk and not at hand: use test or validation")
    train = parts.get("train")
    return Subject(run.model, cut(test, options.limit), train, factor_names=inputs.dataset.factor_names, **more)


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


def shown(run: Any, inputs: Any, part: str) -> Any:
    """Return the examples of a split as the model sees them; dynamic binarisation draws each once, by a fixed key."""
    import jax
    import jax.numpy as jnp

    from models.metrics import Shown
    from training.examples import binarise

    batch = inputs.splits[part].batch(jnp.arange(len(inputs.splits[part])))
    batch = batch._replace(x=binarise(batch.x, run.config.binarise, jax.random.key(0)))
    split = inputs.dataset.splits.get(part)
    return Shown(jax.tree.map(np.asarray, batch), split and split.y, split and split.factors)


def from_file(run: Any, path: str) -> Any:
    """Return the examples of a file, read as the run's own were."""
    import data
    from models.batch import Batch
    from models.config import ConfigError
    from models.metrics import Shown

    read = data.read(path, like=run.facts.record)
    labels = None if read.labels is None else np.unique(read.labels, return_inverse=True)[1].astype(np.int32)
    if run.model.classes and labels is None:
        raise ConfigError(f"this model has labels {run.model.labels!r}, {path} has none")
    return Shown(Batch(run.scaled(read.x), labels if run.model.classes else None), labels)


def together(parts: list[Any]) -> Any:
    """Return all examples of several splits as one."""
    import jax

    return jax.tree.map(lambda *a: np.concatenate(a), *parts)


def cut(examples: Any, limit: int) -> Any:
    """Return the first `limit` examples; 0: all."""
    import jax

    return jax.tree.map(lambda a: a[:limit], examples) if limit else examples


def conditions(run: Any, options: argparse.Namespace, subject: Any) -> dict[str, Any]:
    """Return what numbers depend on beside their metric: two evaluations under the same conditions are one."""
    from flax import nnx

    from training import params_sha256

    return {
        "params_sha256": params_sha256(nnx.state(run.model, nnx.Param)),
        "data": str(Path(options.data).resolve()) if options.data else run.facts.name,
        "split": None if options.data else options.split,
        "examples": subject.test.size,
        "seed": options.seed,
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


if __name__ == "__main__":
    sys.exit(main())
