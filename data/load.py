"""`load`: one name, one Dataset."""

from pathlib import Path

from data.dataset import DataError, Dataset, UnknownDataset, check_finite, nearest
from data.files import local
from data.sets import bundled, sources
from data.sets.named import NAMED
from data.tfds import builders

NAMES = ("digits", "sprites", *NAMED)


def load(
    name: str, data_dir: str | Path | None = None, *, labels: bool = False, connect_seconds: float = 1.5
) -> Dataset:
    """Return the data set `name`.

    name: one of `NAMES`, "tfds:<builder>" ("tfds:mnist", "tfds:emnist/letters:3.1.0"), or "file:<path>"
        (idx, idx.gz, npz, npy, csv, or a folder of images with class subfolders).
    data_dir: folder with one subfolder of raw files per set, or with prepared TFDS folders.
    labels: raise when the set has none.
    connect_seconds: how long to wait for the first answer of a download before calling it offline.

    Sources are tried in the order of `data.sets.sources`. Raises DataError, one line, for an unknown name, a set
    that cannot be had, a damaged file, NaN or infinite values, and missing labels.
    """
    root = None if data_dir is None else Path(data_dir).expanduser()
    if root is not None and not root.is_dir():
        raise DataError(f"data_dir {str(data_dir)!r} is not a folder; give one that holds <name>/ folders")
    try:
        loaded = _load(name, root, connect_seconds)
    except OSError as error:
        raise DataError(f"{name}: {' '.join(str(error).split())}") from None
    for key, split in loaded.splits.items():
        check_finite(split.x, f"{name}, {key} split")
    if labels and loaded.labels is None:
        raise DataError(
            f"{name} has no labels (source: {loaded.source}); choose a set with labels, or do without"
        )
    return loaded


def _load(name: str, root: Path | None, seconds: float) -> Dataset:
    if name == "digits":
        return bundled.load_digits()
    if name == "sprites":
        return bundled.load_sprites()
    if name in NAMED:
        return sources.load_named(name, root, seconds)
    kind, _, rest = name.partition(":")
    if kind == "tfds" and rest:
        return builders.load_tfds(rest, root, sources.cache_folder(), seconds)
    if kind == "file" and rest:
        return local.load_file(Path(rest).expanduser())
    raise UnknownDataset(
        f"unknown data set {name!r}; nearest: {nearest(name, NAMES)}; or tfds:<builder>, or file:<path>"
    )
