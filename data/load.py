"""`load`: one name, one Dataset, with the scale of its values fitted on the training split."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data.dataset import Dataset, check_finite
from data.errors import DataError, UnknownDataset, at_home, nearest, shown
from data.files.kinds.choose import check_kind
from data.files.local import load_file
from data.files.read import located
from data.options import Options
from data.scale import Stats, blocks, fit, measure, measure_observed
from data.sets import bundled, sources
from data.sets.named import NAMED
from data.sets.speech import SOUNDS, load_sound
from data.sets.texts import TEXTS, load_text_set
from data.tfds import builders

NAMES = ("digits", "sprites", *TEXTS, *SOUNDS, *NAMED)


def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    labels: bool = False,
    options: Options | None = None,
    connect_seconds: float = 1.5,
) -> Dataset:
    """Return the data set `name`.

    name: one of `NAMES`, "tfds:<builder>[#feature]" ("tfds:mnist", "tfds:emnist/letters:3.1.0"), or
        "file:<path>[#array]" (see `data.read`).
    data_dir: folder with one subfolder of raw files per set, or with prepared TFDS folders.
    labels: raise when the set has none.
    options: the user's choices; those but the scale are for "file:" only.
    connect_seconds: how long to wait for the first answer of a download before calling it offline.

    Sources are tried in the order of `data.sets.sources`. Raises DataError, one line, for an unknown name, a set
    that cannot be had, a damaged file, NaN or infinite values, and missing labels.
    """
    options = options or Options()
    root = folder_of(data_dir)
    check_options(name, options)
    try:
        loaded = _load(name, root, connect_seconds, options)
    except OSError as error:
        raise DataError(f"{shown(name, 200)}: {' '.join(str(error).split())}") from None
    for key, split in loaded.splits.items():
        check_finite(split.x, f"{name}, {key} split", loaded.missing)
    if labels and loaded.labels is None:
        raise DataError(f"{name} has no labels (source: {loaded.source}); choose a set with labels, or do without")
    check_kind(options.kind, loaded.kind, shown(name, 200))
    return scaled(loaded, options, lambda: statistics(loaded))


def statistics(loaded: Dataset) -> Stats:
    """Return those of the training split."""
    x = loaded.splits["train"].x
    return measure_observed(x) if loaded.missing else measure(blocks(x))


def scaled(loaded: Dataset, options: Options, look: Callable[[], Stats]) -> Dataset:
    """Return the set with its scale; `look` passes over the training split, where that is needed."""
    if loaded.text:
        return loaded
    low, high = loaded.range
    named = not loaded.name.startswith(("file:", "tfds:"))
    eight_bit = loaded.picture and next(iter(loaded.splits.values())).x.dtype == np.uint8
    known = (float(low), float(high)) if named or eight_bit or loaded.bits else None
    once = functools.cache(look)
    scale = fit(options.scale, once, loaded.shape, loaded.name, known)
    if once.cache_info().currsize:  # the range of a TFDS set is that of its other splits until train was looked at
        low, high = min(low, once().range[0]), max(high, once().range[1])
    if scale.kind == "none" and max(abs(low), abs(high)) > float(np.finfo(np.float32).max):
        raise DataError(f"{loaded.name}: values {low:g}..{high:g} do not fit float32; use --scale standardise")
    out = dataclasses.replace(loaded, scale=scale, range=(low, high))
    x = loaded.splits["train"].x if "train" in loaded.splits and not named else None  # a large file's is on disk
    if len(out.constant) == loaded.shape[-1] or (x is not None and np.nanmin(x) == np.nanmax(x)):
        raise DataError(f"{loaded.name}: every column is constant in the training split: there is nothing to learn")
    return out


def folder_of(data_dir: str | Path | None) -> Path | None:
    """Return the folder of data files; DataError when it is none."""
    root = None if data_dir is None else at_home(data_dir)
    if root is not None and not root.is_dir():
        raise DataError(f"data_dir {shown(data_dir)!r} is not a folder; give one that holds <name>/ folders")
    return root


def check_options(name: str, options: Options) -> None:
    """Raise DataError for options that a named set or a TFDS set would not heed."""
    if name.startswith("file:"):
        return
    free = ("scale", "kind")
    given = {k: v for k, v in dataclasses.asdict(options).items() if k not in free and v != getattr(Options(), k)}
    if given:
        raise DataError(f"--{next(iter(given))} is for file: sets; {shown(name)} has its own shape, labels and splits")


def _load(name: str, root: Path | None, seconds: float, options: Options) -> Dataset:
    if name == "digits":
        return bundled.load_digits()
    if name == "sprites":
        return bundled.load_sprites()
    if name in TEXTS:
        return load_text_set(name, root)
    if name.partition("#")[0] in SOUNDS:
        return load_sound(name, root)
    if name in NAMED:
        return sources.load_named(name, root, seconds)
    kind, _, rest = name.partition(":")
    if kind == "tfds" and rest:
        return builders.load_tfds(rest, root, sources.cache_folder(), seconds)
    if kind == "file" and rest:
        try:
            return load_file(rest, options)
        except DataError as error:
            raise DataError(f"{error}{sources.is_named(located(rest)[0])}") from None
    raise UnknownDataset(
        f"unknown data set {shown(name)!r}; nearest: {nearest(name, NAMES)}; or tfds:<builder>, or file:<path>"
    )
