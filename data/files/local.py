"""`file:<path>`: the user's own arrays, tables and images."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.dataset import DataError, Dataset, Parts, Split, array_digests, check_finite, digest
from data.files import formats, images, tables
from data.splits import Interleaved, cut, three_way
from data.stored import as_labels, as_stored, facts_of

_X, _Y = ("x", "X", "images", "image", "data", "faces"), ("y", "Y", "labels", "label", "targets", "target")
_TEN = Interleaved(10)


def load_file(path: Path) -> Dataset:
    """Return the set in a file or folder, chosen by its name: idx, idx.gz, npz, npy, csv, or an image folder.

    Split: as in the file when an npz has x_train and x_test (and x_validation); else by position modulo 10.
    Raises DataError, one line, naming the file, what is wrong and what is expected.
    """
    if path.is_dir():
        x, y, names = images.read_images(path)
        return _dataset(path, {"all": (x, y)}, {}, f"classes: {', '.join(names)}" if names else "no classes")
    if not path.exists():
        raise DataError(f"file:{path}: there is no such file or folder")
    content = formats.read_bytes(path)
    sha256, name = {path.name: digest(content)}, path.name.lower()
    if name.endswith(".npz"):
        return _dataset(path, _npz_parts(formats.parse_npz(content, str(path)), str(path)), sha256)
    if name.endswith(".npy"):
        return _dataset(path, {"all": (formats.parse_npy(content, str(path)), None)}, sha256)
    if name.endswith(".csv"):
        return _dataset(path, {"all": tables.read_csv(path)}, sha256)
    if re.search(r"idx\d?(-ubyte)?(\.gz)?$", name) or content[:3] == b"\0\0\x08":
        x, y = formats.parse_idx(content, str(path)), None
        beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
        if beside != path and beside.is_file():
            labels = formats.read_bytes(beside)
            y, sha256[beside.name] = formats.parse_idx(labels, str(beside)), digest(labels)
        return _dataset(path, {"all": (x, y)}, sha256)
    raise DataError(
        f"file:{path}: unknown kind of file; known are idx, idx.gz, npz, npy, csv and a folder of images "
        f"({', '.join(images.KINDS)})"
    )


def _dataset(path: Path, parts: Parts, sha256: dict[str, str], notes: str = "") -> Dataset:
    """Bring the arrays to their stored form, check and split them."""
    where = str(path)
    clean = {key: as_stored(x, where if key == "all" else f"{where}, {key}") for key, (x, _) in parts.items()}
    for key, x in clean.items():
        check_finite(x, where if key == "all" else f"{where}, {key}")
    labels, classes = _labels(parts, where)
    try:
        splits, words = _split({key: (x, labels.get(key)) for key, x in clean.items()}, where)
    except DataError as error:
        message = str(error)
        raise DataError(message if where in message else f"{where}: {message}") from None
    low_high, binarisation = facts_of(list(clean.values()))
    shape = tuple(splits["train"].x.shape[1:])
    source, words = str(path.resolve()), f"{words}; {notes}" if notes else words
    return Dataset(
        f"file:{path}",
        source,
        splits,
        shape,
        low_high,
        classes,
        sha256 or array_digests(splits),
        binarisation,
        words,
    )


def _labels(parts: Parts, where: str) -> tuple[dict[str, np.ndarray], int | None]:
    """Number the labels of all parts together; labels of one part only are an error."""
    given = {key: y for key, (_, y) in parts.items() if y is not None}
    if not given:
        return {}, None
    if len(given) < len(parts):
        raise DataError(
            f"{where}: labels for {', '.join(given)} but not for {', '.join(set(parts) - set(given))}"
        )
    sizes = [len(x) for x, _ in parts.values()]
    flat = [y.reshape(-1) if y.ndim == 2 and 1 in y.shape else y for y in given.values()]
    for y, n in zip(flat, sizes, strict=True):
        if y.shape != (n,):
            raise DataError(f"{where}: labels of shape {y.shape} for {n} examples; give one per example")
    numbers, classes = as_labels(np.concatenate(flat), where)
    return dict(zip(given, np.split(numbers, np.cumsum(sizes)[:-1]), strict=True)), classes


def _split(parts: Parts, where: str) -> tuple[dict[str, Split], str]:
    """Split one array by position, or arrays that are splits already as `three_way` says."""
    if "all" in parts:
        return _TEN(parts), _TEN.words
    shapes = {key: (x.shape[1:], str(x.dtype)) for key, (x, _) in parts.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{where}: splits differ in shape or type: {shapes}")
    cuts, words = three_way({key: len(x) for key, (x, _) in parts.items()}, where)
    return {key: cut(*parts[part], slice(a, b)) for key, (part, a, b) in cuts.items()}, words


def _npz_parts(arrays: Mapping[str, np.ndarray], where: str) -> Parts:
    """Find x and y in an npz: one array, known keys, or x_train / train_images and so on."""
    parts: Parts = {}
    for part, spellings in (
        ("train", ("train",)),
        ("validation", ("validation", "valid", "val")),
        ("test", ("test",)),
    ):
        found = [_pick(arrays, keys, spellings) for keys in (_X, _Y)]
        if found[0] is not None:
            parts[part] = (found[0], found[1])
    if parts:
        return parts
    x = next((arrays[k] for k in _X if k in arrays), None)
    if x is None and len(arrays) == 1:
        x = next(iter(arrays.values()))
    if x is None:
        raise DataError(
            f"{where}: no known array; it holds {', '.join(arrays) or 'nothing'}; name it one of "
            f"{', '.join(_X)} (labels: y), or x_train, x_test (labels: y_train, y_test)"
        )
    return {"all": (x, next((arrays[k] for k in _Y if k in arrays), None))}


def _pick(
    arrays: Mapping[str, np.ndarray], keys: tuple[str, ...], parts: tuple[str, ...]
) -> np.ndarray | None:
    names = [form for k in keys for p in parts for form in (f"{k}_{p}", f"{p}_{k}")]
    return next((arrays[n] for n in names if n in arrays), None)
