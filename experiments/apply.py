"""Use a trained run: `python -m experiments.apply RUN VERB [--data FILE] [--out FILE]`.

encode       codes of the examples in --data             sample       decoded draws of the prior
reconstruct  their reconstructions, in the data's units  interpolate  from one example to another through the codes
score        errors and bounds of each example           figures      the run's pictures, of the examples in --data
impute       the examples with their missing values filled in, the observed ones as they are
recommend    of a run on ratings: the --n items (10) that each user of --data is likeliest to choose next, by id
latent       latent.html in the run folder: drag a point through the code, see its picture; no network
export       weights, config, scale and a model card, in the layout of model hubs
compress     a file that holds the examples without loss (extra compression)
decompress   the examples of such a file (--data), by the run that wrote it

RUN is a run folder, wherever it was copied, or an exported one. --data takes what `file:` takes, from one example
up; without it the test split of the data set that the run was trained on is loaded again. --out ends in .npz
(default: VERB.npz), .csv, .png or, for texts, .txt, for sound, .wav, is a page for latent, a folder for figures and
export; names of files and rows travel along.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.reporting.made import Made, check_out, write


class Given(NamedTuple):
    """Examples to work on: raw values (n, *shape), a name for each, labels."""

    x: np.ndarray
    names: list[str]
    labels: np.ndarray | None = None


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    out = argparse.ArgumentParser(
        prog="python -m experiments.apply", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out.add_argument("run", metavar="RUN", help="run folder, or an exported one")
    verbs = (*VERBS, "figures", "latent", "export", "compress")
    out.add_argument("verb", metavar="VERB", choices=verbs, help="one of the words above")
    out.add_argument("--data", metavar="FILE", help="what to work on: anything that `--dataset file:` takes")
    out.add_argument("--data-dir", metavar="DIR", help="folder of named data sets (where --data is not given)")
    out.add_argument("--out", metavar="FILE", help=".npz, .csv, .png, .txt or .wav; a folder for figures and export")
    out.add_argument("--which", choices=("best", "last"), help="checkpoint (default: the one that was tested)")
    out.add_argument("--n", type=int, metavar="N", help="samples (64), steps of an interpolation (8), items (10)")
    kinds = ("mixture", "kernel", "flow", "vae")
    out.add_argument(
        "--prior", choices=kinds, help="sample: from one fitted to the codes of --data, else of the training data"
    )
    out.add_argument("--components", type=int, default=10, metavar="K", help="sample: normals of a fitted mixture (10)")
    out.add_argument("--temperature", type=float, metavar="T", help="sample: a text by logits / T (default: likeliest)")
    out.add_argument("--top-k", type=int, metavar="K", help="sample: a text from the K likeliest symbols")
    out.add_argument(
        "--between",
        type=int,
        nargs=2,
        default=(0, 1),
        metavar="ROW",
        help="interpolate: the two rows of --data, the first is 0 (0 1)",
    )
    out.add_argument(
        "--samples", type=int, default=0, metavar="N", help="score: draws of the importance-weighted bound (0: none)"
    )
    out.add_argument("--seed", type=int, default=0, metavar="N", help="of whatever is drawn (0)")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parser().parse_args(argv)
    import train
    from data import DataError
    from models.config import ConfigError
    from training import RunError
    from training.cli.numbers import check_numbers
    from training.cli.progress import keep_going_without_output
    from training.pictures import latent

    if argv is None:  # the process's own command
        keep_going_without_output()
    try:
        check_numbers(options, LEAST)  # before anything is loaded
        run = train.load_run(options.run, options.which)
        place = Path(options.out or Path(options.run) / ("latent.html" if options.verb == "latent" else "figures"))
        if options.verb == "export":
            print(f"exported: {', '.join(map(str, run.export(options.out or f'{Path(options.run).name}-export')))}")
        elif options.verb == "figures":
            print(f"drawn: {', '.join(map(str, figures(run, options, place)))}")
        elif options.verb == "latent":
            found = given(run, options)
            print(f"written: {latent.write(place, run, found.x, whole_labels(found.labels))}")
        elif options.verb == "compress":
            print(compress(run, options, Path(options.out or f"{Path(options.run).name}.compressed")))
        else:
            out = Path(options.out or f"{options.verb}.npz")
            check_out(out, options.verb, run)
            made = VERBS[options.verb](run, options)
            write(out, made, run)
            print(f"{out}: {', '.join(f'{name} {value.shape}' for name, value in made.arrays.items())}")
    except (ConfigError, DataError, RunError) as error:
        print(f"experiments.apply: {error}", file=sys.stderr)
        return 1
    return 0


def given(run: Any, options: argparse.Namespace, part: str = "test") -> Given:
    """Return the examples that were asked for, or that split of the run's data. Raises DataError and ConfigError."""
    import data
    from models.config import ConfigError
    from training.trained.values import numbered

    if options.data:
        read = data.read(options.data, like=run.facts.record)
        if read.remarks:
            print(f"{options.data}: {'; '.join(read.remarks)}")
        labels = read.labels
        if run.given_labels:
            labels = numbered(labels, read.classes, run.facts, options.data)
        return Given(read.x, read.names or list(map(str, range(len(read.x)))), labels)
    name = run.config.dataset
    try:
        split = data.load(name, options.data_dir).splits[part]
    except data.DataError as error:
        raise ConfigError(f"{error}; or give the examples with --data FILE") from None
    return Given(split.x, list(map(str, range(len(split.x)))), split.y)


def source(options: argparse.Namespace) -> str:
    """Return in words whose examples were asked for."""
    from data.errors import shown

    return shown(Path(options.data).name, 40) if options.data else "test set"


def own(found: Given, run: Any) -> np.ndarray | None:
    """Return the labels of the examples where the model was given them."""
    return found.labels if run.given_labels else None


def encode(run: Any, options: argparse.Namespace) -> Made:
    """Return the mean codes of the examples."""
    found = given(run, options)
    z = run.encode(found.x, own(found, run))
    return Made({"z": z}, found.names, [f"z{i + 1}" for i in range(z.shape[1])])


def reconstruct(run: Any, options: argparse.Namespace) -> Made:
    """Return the reconstructions of the examples, beside them in a picture."""
    found = given(run, options)
    columns = list(run.facts.columns) or None
    return Made(
        {"reconstruction": run.reconstruct(found.x, own(found, run))}, found.names, columns, found.x, source(options)
    )


def impute(run: Any, options: argparse.Namespace) -> Made:
    """Return the examples with what is missing filled in, beside them in a picture."""
    found = given(run, options)
    columns = list(run.facts.columns) or None
    missing = int(np.isnan(found.x).sum()) if found.x.dtype.kind == "f" else 0
    print(f"{missing} of {found.x.size} values are missing")
    return Made({"filled": run.impute(found.x, own(found, run))}, found.names, columns, found.x, source(options))


def recommend(run: Any, options: argparse.Namespace) -> Made:
    """Return the ids of the items that each user is likeliest to choose next, and their scores."""
    found = given(run, options)
    made = run.recommend(found.x, 10 if options.n is None else options.n)
    return Made({"item": made.items, "score": made.scores}, found.names)


def sample(run: Any, options: argparse.Namespace) -> Made:
    """Return decoded draws of the prior; --prior, or --data, fits one to the codes of examples first."""
    if options.data or options.prior:
        fitted = {"prior": options.prior or "mixture", "components": options.components, "seed": options.seed}
        found = given(run, options, "train")
        run = run.with_prior(found.x, **fitted, label=own(found, run))
    n = 64 if options.n is None else options.n
    heat = {k: v for k in ("temperature", "top_k") if (v := getattr(options, k)) is not None}
    drawn = run.sample(n, options.seed, mean=not heat, **heat)
    return Made({"sample": drawn}, list(map(str, range(n))), list(run.facts.columns) or None)


def interpolate(run: Any, options: argparse.Namespace) -> Made:
    """Return the decoded line between two examples."""
    from models.config import ConfigError

    found = given(run, options)
    for row in options.between:
        if not 0 <= row < len(found.x):
            raise ConfigError(f"--between {row} is no row of the {len(found.x)} examples (the first is 0)")
    a, b = options.between
    n = 8 if options.n is None else options.n
    labels = own(found, run)
    ends = found.x[[a]], found.x[[b]]
    line = run.interpolate(*ends, n, None if labels is None else labels[[a]])[0]
    names = [f"{found.names[a]}..{found.names[b]} {t:.3g}" for t in np.linspace(0, 1, n)]
    return Made({"interpolation": line}, names, list(run.facts.columns) or None)


def score(run: Any, options: argparse.Namespace) -> Made:
    """Return the metrics of each example."""
    found = given(run, options)
    return Made(run.score(found.x, options.seed, samples=options.samples, label=own(found, run)), found.names)


def whole_labels(labels: np.ndarray | None) -> np.ndarray | None:
    """Return labels as whole numbers from 0; None where there are none."""
    return None if labels is None else np.unique(labels, return_inverse=True)[1]


def figures(run: Any, options: argparse.Namespace, folder: Path) -> list[Path]:
    """Draw the run's pictures of the examples into a folder; return the files."""
    import jax

    from data import Dataset, Split
    from models.config import ConfigError
    from training.pictures import directions
    from training.pictures.figures import write_all
    from training.store.metrics_file import read_metrics

    found, facts = given(run, options), run.facts
    labels = whole_labels(found.labels) if own(found, run) is None else found.labels
    limits, splits = (facts.low, facts.high), {"test": Split(found.x, labels)}
    dataset = Dataset(
        facts.name, "", splits, run.shape, limits, None, {}, scale=facts.scale, columns=facts.columns,
        reading=facts.record.get("reading") or {},
    )  # fmt: skip
    run.encode(found.x[:1], None if (y := own(found, run)) is None else y[:1])  # refuses what does not fit
    rows = read_metrics(run.path / "metrics.jsonl")
    answer = getattr(run.config.objective, "answer", None)
    drawn = write_all(folder, run.model, dataset, rows, jax.random.key(options.seed), answer, source(options))
    try:
        drawn.append(directions.write(folder / "directions.png", run.model, dataset, run.scaled(found.x[:4]), labels))
    except (ConfigError, ValueError) as error:
        print(f"not drawn: directions.png: {error}")
    return drawn


def compress(run: Any, options: argparse.Namespace, out: Path) -> str:
    """Write the examples to a compressed file; return what it takes."""
    from training.store.files import replacing

    found = given(run, options)
    content, header = run.compress(found.x)
    with replacing(out) as file:
        file.write(content)
    size, values = len(content), found.x.size
    net = header["bits_of_examples"] / values
    return f"{out}: {len(found.x)} examples in {size} bytes, {8 * size / values:.4f} bits per value ({net:.4f} net)"


def decompress(run: Any, options: argparse.Namespace) -> Made:
    """Return the examples of a compressed file."""
    from models.config import ConfigError

    if not options.data or not Path(options.data).is_file():
        raise ConfigError("decompress takes the file that compress wrote: --data FILE")
    x = run.decompress(Path(options.data).read_bytes())
    return Made({"x": x}, list(map(str, range(len(x)))), list(run.facts.columns) or None)


VERBS: dict[str, Callable[[Any, argparse.Namespace], Made]] = {
    "encode": encode, "reconstruct": reconstruct, "sample": sample, "interpolate": interpolate, "score": score,
    "decompress": decompress, "impute": impute, "recommend": recommend,
}  # fmt: skip


LEAST = {"n": 1, "components": 1, "temperature": 0, "top_k": 1, "samples": 0, "seed": 0}  # numbers of the options


if __name__ == "__main__":
    sys.exit(main())
