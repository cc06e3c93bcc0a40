"""From a data set's name to splits on the device."""

import jax.numpy as jnp

import data
from models.config import ConfigError
from training.examples import Binarisation, Examples, fix_binary


def load_splits(
    name: str, binarise: Binarisation, batch_size: int, data_dir: str | None
) -> tuple[dict[str, Examples], data.Dataset]:
    """Return every split of a data set on the device, and the data set itself.

    Raises data.DataError (see `data.load`), and ConfigError for a batch larger than the training split or
    values that cannot be made binary.
    """
    dataset = data.load(name, data_dir)
    low, high = float(dataset.range[0]), float(dataset.range[1])
    n = len(dataset.splits["train"])
    if batch_size > n:
        raise ConfigError(f"batch_size must be at most {n}, the training examples of {name}, got {batch_size}")
    if binarise != "none":
        if dataset.binarisation == "published":
            raise ConfigError(f"binarise must be none for {name}: its pixels are already 0 or 1, got {binarise!r}")
        if dataset.splits["train"].x.dtype.kind == "f" and not (low >= 0 and high <= 1):
            raise ConfigError(f"binarise {binarise!r} needs values in [0, 1], {name} has {low:g} to {high:g}")
    splits = {}
    for salt, (part, split) in enumerate(dataset.splits.items()):
        splits[part] = Examples(jnp.asarray(split.x), (low, high))
        if binarise == "static":
            splits[part] = fix_binary(splits[part], salt)
    return splits, dataset
