"""From an array as a file holds it to that of a Dataset: (n, H, W, C) or (n, d); values decide the type.

The same numbers give the same array whatever type and file they came in: whole numbers within 0..255 are uint8, other
numbers float32 where that is exact, else float64.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from data.dataset import check_finite
from data.errors import DataError
from data.scale import ENDS, blocks, only_value

EXACT = 2**53  # whole numbers above this are not all float64


def check_shape(shape: tuple[int, ...], where: str) -> None:
    """Raise DataError unless `shape` is (n, d), (n, H, W) or (n, H, W, C) of at least one value."""
    if len(shape) < 2 or len(shape) > 4:
        wants = "expected (n, d), (n, H, W) or (n, H, W, C)"
        way = "; reshape it first, for one column to (n, 1)" if len(shape) == 1 else "; reshape it first"
        raise DataError(f"{where}: shape {shape}: {wants}{way}")
    if 0 in shape:
        raise DataError(f"{where}: the array is empty (shape {shape})")
    if len(shape) == 4 and shape[-1] > 4 and shape[1] <= 4:
        raise DataError(f"{where}: shape {shape} has channels first; give (n, H, W, C): np.moveaxis(x, 1, -1)")
    if len(shape) == 4 and shape[-1] > 4 and shape[-1] >= min(shape[1:3]):
        flat = (shape[0] * shape[1], *shape[2:])
        raise DataError(
            f"{where}: shape {shape}: the last axis is too long for channels; if the first two are class and "
            f"example, save x.reshape{flat}, else give (n, H, W, C)"
        )


def as_stored(x: np.ndarray, where: str) -> np.ndarray:
    """Return `x` with pictures as (n, H, W, C) in the smallest exact type; values are unchanged.

    Raises DataError for text, objects, complex numbers, NaN and infinity, empty arrays, whole numbers beyond 2^53
    and for anything but 2 to 4 dimensions.
    """
    return together({"": x}, where)[""]


def together(parts: Mapping[str, np.ndarray], where: str, missing: bool = False) -> dict[str, np.ndarray]:
    """Return the parts of a set in stored form, all of one type: see `as_stored`; missing: nan may be among them."""
    found = set()
    for key, x in parts.items():
        named = f"{where}, {key}" if key and key != "all" else where
        if x.dtype.kind not in "buif":
            raise DataError(f"{named}: values of type {x.dtype} are not numbers; convert them first")
        check_shape(x.shape, named)
        check_finite(x, named, missing)
        found.add(_smallest(x, named))
    dtype = np.dtype(next(d for d in ("float64", "float32", "uint8") if d in found))
    return {key: _pictures(x.astype(dtype, copy=False)) for key, x in parts.items()}


def _pictures(x: np.ndarray) -> np.ndarray:
    return x[..., None] if x.ndim == 3 else x


def _smallest(x: np.ndarray, where: str) -> str:
    """Return the smallest of uint8, float32 and float64 that holds every value."""
    if x.dtype.kind == "b" or x.dtype == np.uint8:
        return "uint8"
    low, high = x.min(), x.max()
    if x.dtype.kind in "ui" and not (-EXACT <= int(low) and int(high) <= EXACT):
        raise DataError(
            f"{where}: whole numbers up to {max(abs(int(low)), abs(int(high)))} are beyond 2^53; are they ids?"
        )
    if low >= 0 and high <= 255 and all(np.array_equal(b, np.rint(b)) for b in blocks(x)):
        return "uint8"
    if x.dtype in (np.float32, np.float16, np.int16, np.uint16, np.int8):
        return "float32"
    with np.errstate(over="ignore"):
        exact = all(
            np.array_equal(b.astype(np.float32).astype(np.float64), b.astype(np.float64), equal_nan=True)
            for b in blocks(x)
        )
    return "float32" if exact else "float64"


def kept_dtype(dtype: np.dtype) -> np.dtype:
    """Return the type that holds every value of a type of numbers, for sets whose values are not all seen first."""
    if dtype.kind == "b" or dtype == np.uint8:
        return np.dtype(np.uint8)
    short = dtype.itemsize <= 2 or (dtype.kind == "f" and dtype.itemsize <= 4)
    return np.dtype(np.float32 if short else np.float64)


def facts_of(
    arrays: Sequence[np.ndarray],
) -> tuple[tuple[float | int, float | int], Literal["none", "published"]]:
    """Return (range, binarisation) of a set's arrays in stored form.

    Bits: (0, 1), or (0, 255) and (0, 65535) where these two values are all there is, and "published". Other 8-bit
    pictures: (0, 255); pictures within [0, 1]: (0.0, 1.0); else the lowest and highest value found.
    """
    low, high = min(np.nanmin(x) for x in arrays), max(np.nanmax(x) for x in arrays)
    eight_bit, picture = all(x.dtype == np.uint8 for x in arrays), arrays[0].ndim == 4
    if eight_bit and high <= 1:
        return (0, 1), "published"
    if low == 0 and high in ENDS:
        if (
            functools.reduce(lambda seen, block: only_value(block, seen), (b for x in arrays for b in blocks(x)), 0.0)
            == high
        ):
            return (0, int(high)), "published"
    if picture and eight_bit:
        return (0, 255), "none"
    if picture and low >= 0 and high <= 1:
        return (0.0, 1.0), "none"
    return (float(low), float(high)), "none"


def as_labels(y: np.ndarray, where: str) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """Return labels (n,) as int32 numbers 0..k-1, k, and the names of classes that were not numbers already.

    Whole numbers from 0 with few gaps are kept; other values and texts are numbered in sorted order. Raises
    DataError for real-valued labels and other types.
    """
    if y.dtype.kind not in "buifUSO":
        raise DataError(f"{where}: labels of type {y.dtype} are neither numbers nor texts")
    if y.dtype.kind == "f" and not is_class(y):
        raise DataError(f"{where}: labels such as {y[y != np.rint(y)][0]} are not whole numbers")
    known, numbers = np.unique(y, return_inverse=True)
    if y.dtype.kind in "buif" and known[0] >= 0 and known[-1] < 2 * len(known):
        return y.astype(np.int32), int(known[-1]) + 1, ()
    names = (k.decode("utf-8", "backslashreplace") if isinstance(k, bytes) else str(k) for k in known.tolist())
    return numbers.reshape(-1).astype(np.int32), len(known), tuple(names)


def is_class(y: np.ndarray) -> bool:
    """Whether numbers can be classes: finite whole numbers."""
    return bool(np.isfinite(y).all() and np.array_equal(y, np.rint(y)))
