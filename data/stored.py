"""From an array as a file holds it to that of a Dataset: (n, H, W, C) or (n, d), uint8 or float32."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from data.dataset import DataError


def as_stored(x: np.ndarray, where: str) -> np.ndarray:
    """Return `x` as uint8 or float32 with images as (n, H, W, C); values are unchanged.

    bool becomes uint8 0 and 1; integers that all fit become uint8, others and wider floats float32. Raises
    DataError for text, objects, complex numbers, empty arrays and for anything but 2 to 4 dimensions.
    """
    if x.dtype.kind not in "buif":
        raise DataError(f"{where}: values of type {x.dtype} are not numbers; convert them first")
    if x.ndim < 2 or x.ndim > 4:
        raise DataError(f"{where}: shape {x.shape}: expected (n, d), (n, H, W) or (n, H, W, C)")
    if x.size == 0:
        raise DataError(f"{where}: the array is empty (shape {x.shape})")
    if x.ndim == 4 and x.shape[-1] > 4 and x.shape[1] <= 4:
        raise DataError(f"{where}: shape {x.shape} has channels first; give (n, H, W, C)")
    if x.dtype.kind == "b" or (
        x.dtype.kind in "ui" and x.dtype != np.uint8 and x.min() >= 0 and x.max() <= 255
    ):
        x = x.astype(np.uint8)
    elif x.dtype != np.uint8:
        x = _float32(x, where)
    return x[..., None] if x.ndim == 3 else x


def _float32(x: np.ndarray, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        out = x.astype(np.float32)
    if np.isinf(out).any() and np.isfinite(x).all():
        raise DataError(f"{where}: values up to {np.abs(x).max():.3g} do not fit float32; rescale them")
    return out


def facts_of(
    arrays: Sequence[np.ndarray],
) -> tuple[tuple[float | int, float | int], Literal["none", "published"]]:
    """Return (range, binarisation) of a set's arrays.

    uint8: (0, 255), or (0, 1) and "published" when nothing else occurs. Floats: (0.0, 1.0) for images within
    it, else the lowest and highest value found.
    """
    low, high = min(x.min() for x in arrays), max(x.max() for x in arrays)
    if arrays[0].dtype == np.uint8:
        return ((0, 1), "published") if high <= 1 else ((0, 255), "none")
    if arrays[0].ndim == 4 and low >= 0 and high <= 1:
        return (0.0, 1.0), "none"
    return (float(low), float(high)), "none"


def as_labels(y: np.ndarray, where: str) -> tuple[np.ndarray, int]:
    """Return labels (n,) as int32 numbers 0..k-1, and k.

    Whole numbers from 0 with few gaps are kept; other values and texts are numbered in sorted order. Raises
    DataError for real-valued labels and other types.
    """
    if y.dtype.kind not in "buifUS":
        raise DataError(f"{where}: labels of type {y.dtype} are neither numbers nor texts")
    if y.dtype.kind == "f" and not np.array_equal(y, np.rint(y)):
        raise DataError(f"{where}: labels such as {y[y != np.rint(y)][0]} are not whole numbers")
    known, numbers = np.unique(y, return_inverse=True)
    if y.dtype.kind in "buif" and known[0] >= 0 and known[-1] < 2 * len(known):
        return y.astype(np.int32), int(known[-1]) + 1
    return numbers.astype(np.int32), len(known)
