"""From a data set's name to what a run reads: splits on the device, or batches from disk, and the config that fits."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

import data
from data.disk import load_disk, too_large
from data.options import parse_size
from data.stream import about_stream
from models.batch import observed
from models.config import ConfigError
from training.examples import Binarisation, Examples, fix_binary
from training.inputs.resolve import described, resolved

DATA_FIELDS = ("dataset", "binarise", "scale", "split", "label", "ignore", "resize", "channels", "kind", "batch_size")
"""Fields of a config that decide what the splits in memory hold, and whether a batch fits them."""
DEFAULT_BATCH = 128


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The splits of a run, its data set, and the stream of training batches where they come from disk.

    config: the run's config as it fits the data, to be run and recorded. line: what was understood, in one line.
    range: of the stored integers that the step maps to [0, 1]; other values are scaled already. source: the training
    examples behind the stream.
    """

    splits: dict[str, Examples]
    dataset: data.Dataset
    stream: data.Stream | None = None
    config: Any = None
    line: str = ""
    source: Any = None

    @property
    def examples(self) -> int:
        """Number of training examples."""
        return len(self.splits["train"]) if self.stream is None else self.stream.examples

    @property
    def unit(self) -> str:
        """The range of the raw values and their scale, in words."""
        low, high = self.dataset.range
        return f"values {low:g}..{high:g} with scale {self.dataset.scale.kind}"

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest stored integer, which become 0 and 1."""
        return step_range(self.dataset.scale)


def step_range(scale: data.Scale) -> tuple[float, float]:
    """Return the stored integers that a scale maps to 0 and 1; (0, 1) where values come scaled."""
    if scale.kind not in ("unit", "none"):
        return 0.0, 1.0
    return float(scale.shift), float(scale.shift) + float(np.rint(1 / scale.factor))


def in_step(dataset: data.Dataset) -> bool:
    """Whether the compiled step scales the stored integers: a quarter of the memory of float32."""
    raw = next(iter(dataset.splits.values())).x
    return raw.dtype.kind in "bui" and dataset.scale.kind in ("unit", "none")


def options_of(config: Any) -> data.Options:
    """Return how a config wants its data read."""
    return data.Options(
        config.label,
        config.ignore,
        parse_size(config.resize),
        config.channels,
        config.split,
        config.scale,
        config.kind,
    )


def load_inputs(config: Any, data_dir: str | None) -> Inputs:
    """Return what the run of a `train.Config` reads, and the config as it fits the data.

    Raises data.DataError (see `data.load`, and `resolved` for values outside a support), and ConfigError for a
    batch larger than the training split or values that cannot be made binary.
    """
    read = config.read
    if read == "auto":
        read = "stream" if config.kind in ("auto", "table", "image") and too_large(config.dataset) else "memory"
    inputs = _streamed(config, data_dir) if read == "stream" else _in_memory(config, data_dir)
    dataset, fitting = inputs.dataset, dataclasses.replace(config, read=read)
    check_binary(config, dataset)
    config.model.fits_data(inputs.examples)
    batch = batch_that_fits(config, inputs.examples)
    if batch != config.batch_size:
        fitting = dataclasses.replace(fitting, batch_size=batch)
        inputs = _streamed(fitting, data_dir) if read == "stream" else inputs
    steps = inputs.examples // batch
    if config.epochs * steps >= 2**31:  # the step counter has 32 bits
        raise ConfigError(f"epochs must be at most {(2**31 - 1) // steps} of {steps} steps each, got {config.epochs}")
    fitting = resolved(fitting, dataset, inputs.source)
    words = [dataset.line(None if inputs.stream is None else inputs.stream.examples), described(fitting, config)]
    words += [f"kind {dataset.kind}{' (auto)' if config.kind == 'auto' else ''}"]
    words += [f"batches of {batch}, for the few examples"] if batch != config.batch_size else []
    return dataclasses.replace(inputs, config=fitting, line="; ".join(words))


def batch_that_fits(config: Any, n: int) -> int:
    """Return the batch size: the default one at most an eighth of the training split, for 8 steps an epoch or more.

    Raises ConfigError for another size that exceeds the split.
    """
    if config.batch_size == DEFAULT_BATCH:
        return max(1, min(DEFAULT_BATCH, n // 8))
    if config.batch_size <= n:
        return config.batch_size
    raise ConfigError(
        f"batch_size must be at most {n}, the training examples of {config.dataset}, got {config.batch_size}"
    )


def check_binary(config: Any, dataset: data.Dataset) -> None:
    """Raise ConfigError for binarising bits or values outside [0, 1]."""
    if config.binarise == "none":
        return
    if dataset.bits:
        raise ConfigError(f"binarise must be none for {dataset.name}: its pixels are bits already")
    low, high = dataset.range
    if not (dataset.scale.kind == "unit" or (dataset.scale.kind == "none" and low >= 0 and high <= 1)):
        raise ConfigError(
            f"binarise {config.binarise!r} needs values in [0, 1], {dataset.name} has {low:g} to {high:g} with scale "
            f"{dataset.scale.kind}"
        )


def needs_labels(model: Any) -> bool:
    """Whether a model reads labels; a run without has no trace of them."""
    return model.labels != "none" or getattr(model.prior, "labelled", False)


def labels_of(model: Any, dataset: data.Dataset, part: str) -> dict[str, Any]:
    """Return the label and classes of a split as `Examples` take them, nothing for a model without.

    Raises ConfigError where the data have none.
    """
    if not needs_labels(model):
        return {}
    y = dataset.splits[part].y
    if y is None or not dataset.labels:
        if model.labels == "none":
            raise ConfigError(f"prior labelled needs data with labels, {dataset.name} has none: use prior mixture")
        raise ConfigError(f"labels {model.labels!r} needs data with labels, {dataset.name} has none: use labels none")
    return {"label": jnp.asarray(y, jnp.int32), "classes": dataset.labels}


def _examples(dataset: data.Dataset, part: str, salt: int, binarise: Binarisation, model: Any) -> Examples:
    x, labels = dataset.splits[part].x, labels_of(model, dataset, part)
    if in_step(dataset):
        examples = Examples(jnp.asarray(x), step_range(dataset.scale), **labels)
    else:
        x, _, mask = observed(dataset.scale.apply(x))
        if dataset.missing:  # in every split, whether or not some of its values are: one program for all
            labels["mask"] = jnp.ones(x.shape, bool) if mask is None else jnp.asarray(mask)
        examples = Examples(jnp.asarray(x), (0.0, 1.0), **labels)
    return fix_binary(examples, salt) if binarise == "static" else examples


def _in_memory(config: Any, data_dir: str | None) -> Inputs:
    dataset = data.load(config.dataset, data_dir, options=options_of(config))
    how, parts = (config.binarise, config.model), enumerate(dataset.splits)
    return Inputs({part: _examples(dataset, part, salt, *how) for salt, part in parts}, dataset)


def _streamed(config: Any, data_dir: str | None) -> Inputs:
    """Training batches from disk; the validation and test splits in memory."""
    if config.binarise == "static":
        raise ConfigError("binarise 'static' needs read 'memory': one draw per example, kept; or use 'dynamic'")
    dataset, train = load_disk(config.dataset, data_dir, options_of(config))
    dataset = dataclasses.replace(
        dataset, notes=f"{dataset.notes}; train streamed from disk in an order drawn anew each epoch"
    )
    about = about_stream(config.dataset, "train", len(train), config.batch_size, int(config.seed))
    scale = None if in_step(dataset) else dataset.scale
    stream = data.Stream(train, dataset.labels, about, scale=scale)
    parts = ("validation", "test")
    return Inputs(
        {part: _examples(dataset, part, 0, "none", config.model) for part in parts}, dataset, stream, source=train
    )
