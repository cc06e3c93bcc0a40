"""Supports: the sets of values that likelihoods and losses give a meaning to.

Values outside one do not fail: they make nonsense that is called finished. So they are refused, those of a data set
before the first step, those given to a trained model before it sees them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

import data
from models.config import kind

UNIT = ("auto", "bernoulli", "continuousbernoulli")
LEVELS = ("discretizedlogistic", "categorical")
LEVELS_OF_8_BITS = 256
WHOLE = ("symbols", "counts", "columns", "pen")
EXACT = 1e-3  # a value may be this far from a level, in units of levels
ROUNDED = 1e-6  # and this far from 0 or 1, where a scale of 32 bits put it there


def levels_of(dataset: data.Dataset) -> int:
    """Return how many levels in [0, 1] the scaled values of pictures have; 0 where they are no levels."""
    low, high = dataset.range
    if dataset.bits and dataset.picture and dataset.scale.kind in ("unit", "none"):
        return 2
    raw = next(iter(dataset.splits.values())).x
    whole = raw.dtype.kind in "bui" and dataset.picture and dataset.scale.kind in ("unit", "none")
    if not whole or dataset.scale.kind == "none":
        return 0
    return int(high - low) + 1


def scaled_range(dataset: data.Dataset) -> tuple[float, float]:
    """Return the lowest and highest scaled value: possible ones where one number scales all, else those in memory."""
    if np.ndim(dataset.scale.factor) == 0:
        ends = [dataset.scale.apply(np.asarray(dataset.range))]
    else:
        flat = [split.x.reshape(-1, split.x.shape[-1]) for split in dataset.splits.values()]
        ends = [dataset.scale.apply(end) for x in flat for end in (np.nanmin(x, 0), np.nanmax(x, 0))]
    return float(min(np.nanmin(e) for e in ends)), float(max(np.nanmax(e) for e in ends))


def support_of(likelihood: Any) -> str:
    """Return the support of a likelihood: real, unit ([0, 1]), levels (of [0, 1]), symbols, counts, columns or pen."""
    name = kind(type(likelihood))
    return getattr(likelihood, "support", None) or ("unit" if name in UNIT else "levels" if name in LEVELS else "real")


def outside(likelihood: Any, x: np.ndarray) -> str | None:
    """Return what a likelihood asks of scaled values (n, *shape), and one that is not so; None where all are."""
    support, name = support_of(likelihood), kind(type(likelihood))
    if support in WHOLE:
        codes, top, bad = _not_whole(likelihood, x)
        if not bad.any():
            return None
        row, place = np.argwhere(bad)[0]
        limit = np.broadcast_to(top, codes.shape[1:])[place]
        more = f" and below {limit:g}" if np.isfinite(limit) else ""
        column = np.flatnonzero(likelihood.sizes())[place] + 1 if name == "columns" else 0
        where = f" in column {column}" if column else ""
        return f"likelihood {name} needs whole numbers from 0{more}{where}, got {codes[row, place]:g}"
    bad = np.zeros(x.shape, bool) if support == "real" else (x < -ROUNDED) | (x > 1 + ROUNDED)
    if bad.any():
        return f"likelihood {name} needs values in [0, 1] after scaling, got {x[bad][0]:g}"
    if support != "levels":
        return None
    steps = np.asarray(x, np.float64) * ((getattr(likelihood, "levels", None) or LEVELS_OF_8_BITS) - 1)
    bad = np.abs(steps - np.rint(steps)) >= EXACT
    word = f"likelihood {name} needs values on the levels of the training data"
    return f"{word}, got {x[bad][0]:g} after scaling, between two of them" if bad.any() else None


def check_support(config: Any, dataset: data.Dataset, train: Any = None) -> None:
    """Raise data.DataError unless every scaled value lies in the support of the likelihood and of the loss."""
    likelihood = config.model.likelihood
    name, support = kind(type(likelihood)), support_of(likelihood)
    if support == "real" or config.binarise != "none":
        return
    if support in WHOLE:
        _check_whole(likelihood, name, dataset, train)
        return
    low, high = scaled_range(dataset)
    loss = "cross-entropy" if getattr(config.objective, "error", "") == "cross_entropy" else f"likelihood {name}"
    raw = dataset.range
    where = f"{dataset.name}: values {raw[0]:g}..{raw[1]:g}, {low:g}..{high:g} with scale {dataset.scale.kind}"
    if low < 0 or high > 1:
        scales = "--scale unit, or " if dataset.picture and raw[0] >= 0 else ""
        raise data.DataError(f"{where}: {loss} needs values in [0, 1]; use {scales}--model.likelihood normal (or auto)")
    levels = getattr(likelihood, "levels", None) or LEVELS_OF_8_BITS
    if support == "levels" and not _on_levels(dataset, levels, hasattr(likelihood, "levels"), train):
        raise data.DataError(
            f"{where}: {loss} needs values on {levels} levels from 0 to 1, these are not; use --model.likelihood "
            "normal (or auto)"
        )


def _check_whole(likelihood: Any, name: str, dataset: data.Dataset, train: Any) -> None:
    """Raise data.DataError unless symbols, counts and codes are whole numbers from 0, below the number there is."""
    low, high = dataset.range
    columns = len(likelihood.sizes()) if name == "columns" else 0
    for x in _scaled_blocks(dataset, train):
        if columns and x[0].size != columns:
            raise data.DataError(f"{dataset.name}: {columns} columns are named, the data have {x[0].size}")
        if said := outside(likelihood, x):
            unscaled = dataset.scale.kind != "none" and (low >= 0 or name in ("strokes", "columns"))
            way = "--scale none, " if unscaled else ""
            raise data.DataError(
                f"{dataset.name}: values {low:g}..{high:g} with scale {dataset.scale.kind}: {said}; "
                f"use {way}--model.likelihood normal (or auto)"
            )


def _not_whole(likelihood: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values that are to be symbols, counts or codes, the number each is to be below, and which are not."""
    limits, name = [np.inf], kind(type(likelihood))  # codes of a column are below its limit; 0: any number
    if name == "tokens":
        limits = [likelihood.symbols]
    if name == "columns":
        limits = [abs(size) for size in likelihood.sizes()]
    if name == "strokes":
        limits = [0, 0, 3] * (x[0].size // 3)  # moves are any numbers, what the pen does is 0, 1 or 2
    coded, flat = np.flatnonzero(limits), x.reshape(len(x), -1)
    top = np.array(limits, float)[coded]
    codes = flat[:, coded] if name in ("columns", "strokes") else flat
    return codes, top, ~((codes >= 0) & (codes < top) & (codes == np.rint(codes)) | np.isnan(codes))


def _on_levels(dataset: data.Dataset, levels: int, exactly: bool, train: Any) -> bool:
    """Whether every scaled value is a level; where 256 are fixed, fewer are rounded to the nearest of them."""
    known = levels_of(dataset)
    if known:
        return (levels - 1) % (known - 1) == 0 if exactly else known <= levels
    return all(
        bool(np.all(np.abs(x * (levels - 1) - np.rint(x * (levels - 1))) < EXACT))
        for x in _scaled_blocks(dataset, train)
    )


def _scaled_blocks(dataset: data.Dataset, train: Any) -> Iterator[np.ndarray]:
    """Yield every scaled example, a block at a time: those in memory, then those of the training split on disk."""
    for split in dataset.splits.values():
        for start in range(0, len(split), 1024):
            yield dataset.scale.apply(split.x[start : start + 1024])
    for block in () if train is None else train.blocks():
        yield dataset.scale.apply(block)
