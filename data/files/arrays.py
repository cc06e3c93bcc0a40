"""Which arrays of a file are the examples and which the labels: npz, npy, idx, mat and h5."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError, nearest, shown
from data.files.formats import gunzip, memory, parse_idx
from data.files.npz import Npz, parse_npy
from data.files.reading import Part
from data.stored import is_class

X = ("x", "data", "images", "image", "imgs", "img", "features", "inputs", "faces", "arr_0")
Y = ("y", "labels", "label", "targets", "target", "classes", "class")
GIVEN = {
    "train": ("train", "training", "tr"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "te"),
}
KINDS = (".npz", ".npy", ".npy.gz", ".mat", ".h5", ".hdf5")


class Shapes(dict[str, Any]):
    """Arrays by name that can tell a shape without being read; a plain dict of arrays."""

    def shape(self, key: str) -> tuple[int, ...] | None:
        """Return the shape of an array."""
        return getattr(self[key], "shape", None)


def arrays_of(content: bytes, path: Path) -> Any:
    """Return the arrays of a file by name: a mapping with `shape(name)`."""
    where, name = str(path), path.name.lower()
    if name.endswith(".npz"):
        return Npz(content, where)
    if name.endswith((".npy", ".npy.gz")):
        plain = gunzip(content, where) if content[:2] == b"\x1f\x8b" else content
        return Shapes(x=parse_npy(plain, where))
    if name.endswith(".mat"):
        return _matlab(content, where)
    if name.endswith((".h5", ".hdf5")):
        return _hdf5(content, where)
    return Shapes(x=parse_idx(content, where))


def _matlab(content: bytes, where: str) -> Any:
    if content[:4] != b"MATL" and content[:8] == b"\x89HDF\r\n\x1a\n":
        return _hdf5(content, where, turned=True)
    if b"MATLAB 7.3" in content[:128]:
        return _hdf5(content, where, turned=True)
    from scipy.io import loadmat

    try:
        found = loadmat(
            io.BytesIO(content), struct_as_record=True, squeeze_me=False, verify_compressed_data_integrity=True
        )
    except Exception as error:  # scipy's reader raises many kinds for damaged files
        raise DataError(f"{where}: not a readable Matlab file ({shown(error)})") from None
    return Shapes({k: v for k, v in found.items() if not k.startswith("__") and isinstance(v, np.ndarray)})


class _Hdf5(Mapping[str, np.ndarray]):
    def __init__(self, file: Any, where: str, turned: bool):
        self.sets: dict[str, Any] = {}
        self.where, self.turned = where, turned  # MATLAB stores axes in the opposite order
        file.visititems(lambda name, item: self.sets.update({name: item}) if hasattr(item, "dtype") else None)

    def __iter__(self) -> Any:
        return iter(self.sets)

    def __len__(self) -> int:
        return len(self.sets)

    def shape(self, key: str) -> tuple[int, ...] | None:
        return self.sets[key].shape[:: -1 if self.turned else 1]

    def __getitem__(self, key: str) -> np.ndarray:
        found = self.sets[key]
        if found.size * found.dtype.itemsize > memory() // 2:
            raise DataError(
                f"{self.where}, {key}: {found.shape} does not fit memory; save it as .npy and use --read stream"
            )
        try:
            x = np.asarray(found[()])
            return np.ascontiguousarray(x.T) if self.turned else x
        except Exception as error:  # missing filters and damage raise many kinds
            raise DataError(f"{self.where}, {key}: cannot be read ({shown(error)})") from None


def _hdf5(content: bytes, where: str, turned: bool = False) -> Any:
    try:
        import h5py
    except ImportError:
        raise DataError(f"{where}: reading HDF5 needs h5py: pip install h5py (the extra: .[h5])") from None
    try:
        return _Hdf5(h5py.File(io.BytesIO(content), "r"), where, turned)
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError ... for damaged files
        raise DataError(f"{where}: not a readable HDF5 file ({shown(error)})") from None


def parts_of(arrays: Any, where: str, key: str, label: str) -> tuple[dict[str, Part], list[str]]:
    """Return the parts in a file's arrays and remarks: x_train, x_test and so on, else one array of examples.

    key: the array of examples, or "" to find it. label: the array of labels, "" to find it, "none" for none.
    Raises DataError when nothing or more than one thing could be meant, listing what is there.
    """
    listed = ", ".join(f"{shown(k, 30)} {arrays.shape(k) or '(no array)'}" for k in list(arrays)[:12]) or "nothing"
    if not key:
        given = _given(arrays, where, label)
        if given:
            return given, [f"splits as given in the file: {', '.join(given)}"]
    x = key or _examples(arrays, where, listed)
    if x not in arrays:
        raise DataError(f"{where}: no array {x!r}; nearest: {nearest(x, arrays)}; it holds {listed}")
    if label not in ("", "none") and label not in arrays:
        raise DataError(f"{where}: no array {label!r} of labels; nearest: {nearest(label, arrays)}; it holds {listed}")
    y = label if label not in ("", "none") else None if label else _named(arrays, Y, exclude=x)
    remarks = [f"examples: array {x!r}"] if len(arrays) > 1 else []
    values = arrays[x]
    labels = None if y is None else _labels(arrays[y], y, bool(label), where, remarks)
    left = [k for k in arrays if k not in (x, y)]
    if left:
        remarks.append(f"not read: {', '.join(shown(k, 30) for k in left[:6])}{' ...' if len(left) > 6 else ''}")
    return {"all": Part(_oriented(values, labels, where, remarks), labels)}, remarks


def _oriented(x: np.ndarray, y: np.ndarray | None, where: str, remarks: list[str]) -> np.ndarray:
    """Return examples first: a matrix whose columns are as many as the labels is transposed, and that is said."""
    if y is not None and x.ndim == 2 and len(x) != len(y) and x.shape[1] == len(y):
        remarks.append(f"transposed: {x.shape[1]} examples are the columns")
        return np.ascontiguousarray(x.T)
    return x


def _labels(y: np.ndarray, key: str, asked: bool, where: str, remarks: list[str]) -> np.ndarray | None:
    y = y.reshape(-1) if y.ndim == 2 and 1 in y.shape else y
    if y.dtype.kind == "f" and not is_class(y):
        if asked:
            raise DataError(f"{where}: array {key!r} holds real numbers, which are no classes; use --label none")
        remarks.append(f"array {key!r} holds real numbers: no labels")
        return None
    remarks.append(f"labels: array {key!r}")
    return y


def _named(arrays: Any, names: tuple[str, ...], exclude: str = "") -> str | None:
    lower = {k.lower(): k for k in arrays if k != exclude}
    return next((lower[n] for n in names if n in lower), None)


def _examples(arrays: Any, where: str, listed: str) -> str:
    """Return the name of the array of examples: the only one called so, else the only one with rows."""
    lower = {k.lower(): k for k in arrays}
    found = [lower[n] for n in X if n in lower and len(arrays.shape(lower[n]) or ()) != 1]
    rows = [k for k in arrays if len(arrays.shape(k) or ()) >= 2 and k.lower() not in Y]
    if len(found) == 1:
        return found[0]
    if not found and len(arrays) == 1:
        return next(iter(arrays))
    if not found and len(rows) == 1:
        return rows[0]
    some = found or rows
    what = f"{len(some)} arrays could be the examples" if some else "no known array"
    raise DataError(
        f"{where}: {what}; it holds {listed}; choose one with file:{where}#NAME, or name it one of {', '.join(X)} "
        "(labels: y), or x_train, x_test (labels: y_train, y_test)"
    )


def _given(arrays: Any, where: str, label: str) -> dict[str, Part]:
    """Return the parts of a file that holds splits: x_train, test_images, train and so on."""
    lower = {k.lower(): k for k in arrays}

    def find(names: tuple[str, ...], spellings: tuple[str, ...]) -> str | None:
        forms = [form for n in names for s in spellings for form in (f"{n}_{s}", f"{s}_{n}", f"{n}{s}", f"{s}{n}")]
        return next((lower[f] for f in forms if f in lower), None)

    out: dict[str, Part] = {}
    for part, spellings in GIVEN.items():
        x = find(X, spellings) or next((lower[s] for s in spellings if s in lower), None)
        if x is None:
            continue
        y = None if label == "none" else find(Y, spellings)
        labels = None if y is None else arrays[y].reshape(-1) if 1 in arrays[y].shape else arrays[y]
        if labels is not None and labels.dtype.kind == "f" and not is_class(labels):
            labels = None
        out[part] = Part(arrays[x], labels)
    return out if "train" in out else {}
