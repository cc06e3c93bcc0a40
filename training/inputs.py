"""From a data set's name to what a run reads: splits on the device, or batches from disk."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

import data
from models.config import ConfigError
from training.examples import Binarisation, Examples, fix_binary


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The splits of a run, its data set, and the stream of training batches where they come from disk."""

    splits: dict[str, Examples]
    dataset: data.Dataset
    stream: data.Stream | None = None

    @property
    def examples(self) -> int:
        """Number of training examples."""
        return len(self.splits["train"]) if self.stream is None else self.stream.examples


def load_inputs(config: Any, data_dir: str | None) -> Inputs:
    """Return what the run of a `train.Config` reads.

    Raises data.DataError (see `data.load`), and ConfigError for a batch larger than the training split or
    values that cannot be made binary.
    """
    inputs = _streamed(config, data_dir) if config.read == "stream" else _in_memory(config, data_dir)
    name, n, dataset = config.dataset, inputs.examples, inputs.dataset
    if config.batch_size > n:
        raise ConfigError(f"batch_size must be at most {n}, the training examples of {name}, got {config.batch_size}")
    steps = n // config.batch_size
    if config.epochs * steps >= 2**31:  # the step counter has 32 bits
        raise ConfigError(f"epochs must be at most {(2**31 - 1) // steps} of {steps} steps each, got {config.epochs}")
    if config.binarise != "none":
        if dataset.binarisation == "published":
            raise ConfigError(f"binarise must be none for {name}: its pixels are already 0 or 1")
        x, (low, high) = dataset.splits["test"].x, dataset.range
        if x.dtype.kind == "f" and not (low >= 0 and high <= 1):
            raise ConfigError(f"binarise {config.binarise!r} needs values in [0, 1], {name} has {low:g} to {high:g}")
    return inputs


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
        raise ConfigError(f"labels {model.labels!r} needs data with labels, {dataset.name} has none: use labels none")
    return {"label": jnp.asarray(y, jnp.int32), "classes": dataset.labels}


def _examples(dataset: data.Dataset, part: str, salt: int, binarise: Binarisation, model: Any) -> Examples:
    low, high = dataset.range
    x = jnp.asarray(dataset.splits[part].x)
    examples = Examples(x, (float(low), float(high)), **labels_of(model, dataset, part))
    return fix_binary(examples, salt) if binarise == "static" else examples


def _in_memory(config: Any, data_dir: str | None) -> Inputs:
    dataset = data.load(config.dataset, data_dir)
    how, parts = (config.binarise, config.model), enumerate(dataset.splits)
    return Inputs({part: _examples(dataset, part, salt, *how) for salt, part in parts}, dataset)


def _streamed(config: Any, data_dir: str | None) -> Inputs:
    """Training batches from disk; the validation and test splits in memory."""
    if config.binarise == "static":
        raise ConfigError("binarise 'static' needs read 'memory': one draw per example, kept; or use 'dynamic'")
    name = config.dataset
    how: tuple[Binarisation, Any] = ("none", config.model)
    train = data.stream(name, batch_size=config.batch_size, seed=int(config.seed), data_dir=data_dir)
    notes = "train streamed from disk in an order drawn anew each epoch"
    if not name.startswith("tfds:"):  # held in memory anyway
        dataset = data.load(name, data_dir)
        dataset = dataclasses.replace(dataset, notes=f"{dataset.notes}; {notes}")
        return Inputs({part: _examples(dataset, part, 0, *how) for part in ("validation", "test")}, dataset, train)
    splits = {}
    for part in ("validation", "test"):
        whole = data.stream(name, part, batch_size=512, data_dir=data_dir, epochs=1, shuffle=False)
        batches = list(whole)
        y = np.concatenate([b["y"] for b in batches]) if whole.labels else None
        splits[part] = data.Split(np.concatenate([b["x"] for b in batches]), y)
    x = splits["test"].x
    bounds = (float(x.min()), float(x.max())) if x.dtype.kind == "f" else (0, np.iinfo(x.dtype).max)
    dataset = data.Dataset(name, "stream", splits, train.shape, bounds, train.labels, {}, notes=notes)
    return Inputs({part: _examples(dataset, part, 0, *how) for part in splits}, dataset, train)
