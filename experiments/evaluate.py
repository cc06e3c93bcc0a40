"""Judge a trained run: `python -m experiments.evaluate RUN [--metrics NAME ...] [--data FILE]`.

Prints every number with its unit and standard error, and keeps them in RUN/evaluation.json. Without --metrics: all that
take seconds and that the model and the data can have; one that they cannot have says why. RUN is a run folder,
wherever it was copied, or an exported one. Examples come from the data set that the run was trained on, or from --data.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.cli.numbers import check_numbers
from training.cli.progress import keep_going_without_output
from training.trained.measured import FILE, conditions, own_data, report, shown_splits

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
    out.add_argument("--metrics", nargs="+", metavar="NAME", help="what to measure (default: all that take seconds)")
    out.add_argument("--data", metavar="FILE", help="examples to judge on: anything that `--dataset file:` takes")
    out.add_argument("--data-dir", metavar="DIR", help="folder of named data sets (where --data is not given)")
    out.add_argument("--split", choices=SPLITS, default="test", help="examples of the run's data set (test)")
    out.add_argument("--limit", type=int, default=0, metavar="N", help="judge on the first so many examples (0: all)")
    out.add_argument(
        "--samples", type=int, default=5000, metavar="N", help="draws for each example of log_likelihood (5000)"
    )
    out.add_argument("--seed", type=int, default=0, metavar="N", help="of whatever is drawn (0)")
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
        check_numbers(options, {"limit": 0, "samples": 1, "seed": 0})
        run = train.load_run(options.run, options.which)
        with jax.default_matmul_precision(run.config.matmul_precision):
            subject = subject_of(run, options)
            of = conditions(run, subject, options.split, options.data)
            lines, code = report(subject, options.metrics, of, Path(options.out or run.path / FILE))
    except (ConfigError, DataError, RunError) as error:
        print(f"experiments.evaluate: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return code


def subject_of(run: Any, options: argparse.Namespace) -> Any:
    """Return the model and the examples that were asked for. Raises ConfigError and DataError."""
    from models.metrics import Subject

    more = {"seed": options.seed, "samples": options.samples, "folder": run.path, "ratings": run.facts.ratings}
    more["matched"] = run.matched
    if options.data:
        return Subject(run.model, cut(from_file(run, options.data), options.limit), **more)
    inputs = own_data(run, options.data_dir)
    parts = shown_splits(run, inputs, inputs.splits)
    if options.split in parts:
        test = parts[options.split]
    else:
        test = together([parts[name] for name in inputs.splits]) if options.split == "all" else None
    if test is None:
        from models.config import ConfigError

        raise ConfigError(f"split {options.split} is streamed from disk and not at hand: use test or validation")
    train = parts.get("train")
    return Subject(run.model, cut(test, options.limit), train, factor_names=inputs.dataset.factor_names, **more)


def from_file(run: Any, path: str) -> Any:
    """Return the examples of a file, read as the run's own were."""
    import data
    from models.batch import observed
    from models.metrics import Shown
    from training.trained.values import numbered

    read = data.read(path, like=run.facts.record)
    labels = None if read.labels is None else np.unique(read.labels, return_inverse=True)[1].astype(np.int32)
    told = run.given_labels or (run.classes and labels is not None)
    # what the model sees are the numbers of training, also where the file holds some of the classes
    seen = numbered(read.labels, read.classes, run.facts, path) if told else None
    return Shown(observed(run.scaled(read.x), seen), labels)


def together(parts: list[Any]) -> Any:
    """Return all examples of several splits as one."""
    import jax

    return jax.tree.map(lambda *a: np.concatenate(a), *parts)


def cut(examples: Any, limit: int) -> Any:
    """Return the first `limit` examples; 0: all."""
    import jax

    return jax.tree.map(lambda a: a[:limit], examples) if limit else examples


if __name__ == "__main__":
    keep_going_without_output()
    sys.exit(main())
