"""Series: values in order of time, cut into windows or taken whole, (n, steps, columns); splits are blocks of time.

    file:x.csv#CUT/LENGTH/STRIDE   CUT windows or whole; LENGTH and STRIDE in steps; NAME of an array before them

windows: pieces of LENGTH steps, STRIDE apart; train, validation and test are cut from the time axis first (the last
tenth is test, the one before it validation), so that no window reaches over a border; of ten series or more each is in
one split as a whole. whole: one series an example, dealt out like the rows of a table. Without CUT a file of many
series is taken whole, one series in windows. A column of time is recognised: it gives the order, and windows are named
by their start.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.dataset import Dataset, Split, check_finite, digest, names_of
from data.errors import DataError, nearest, shown
from data.files import arrays, tables
from data.files.formats import memory, read_bytes
from data.files.kinds import times, ts
from data.files.kinds.series_of import Recorded, in_arrays, in_table
from data.files.reading import Part, Reading
from data.options import Options
from data.splits import cut, divide
from data.stored import as_labels, facts_of

CUTS = ("windows", "whole")
WINDOW, OVERLAP, FEWEST = 64, 8, 10
Series = list[np.ndarray]  # each (steps, columns)


class Cutting(NamedTuple):
    """How series are cut: array of the file, cut ("" as they suggest), steps of a window and from one to the next."""

    key: str = ""
    cut: str = ""
    length: int = 0
    stride: int = 0


def how_of(words: str, where: str, named: bool) -> Cutting:
    """Return what "NAME/CUT/LENGTH/STRIDE" says, any of them left out; `named`: whether the file holds named arrays.

    Raises DataError for words that are none of these.
    """
    how, numbers = Cutting(), list[int]()
    for word in filter(None, words.split("/")):
        if word in CUTS:
            how = how._replace(cut=word)
        elif word.isdecimal() and len(numbers) < 2 and 1 <= int(word) <= 10_000_000:
            numbers.append(int(word))
        elif named and not how.key and not how.cut and not numbers:
            how = how._replace(key=word)
        else:
            raise DataError(
                f"{where}: {shown(word)!r} after # is none of {', '.join(CUTS)}, or a length and a stride in steps "
                f"from 1 up; nearest: {nearest(word, CUTS)}"
            )
    if numbers and how.cut != "whole":
        how = how._replace(cut="windows")
    if numbers and how.cut == "whole":
        raise DataError(f"{where}: whole series have no length and stride to choose; use #windows/{numbers[0]}")
    return how._replace(length=numbers[0] if numbers else 0, stride=numbers[1] if len(numbers) > 1 else 0)


def recorded(path: Path, how: Cutting, options: Options, like: Mapping[str, Any]) -> tuple[Recorded, bytes]:
    """Return the series in a file, not yet cut, and the file's bytes."""
    content, name = read_bytes(path), path.name.lower()
    if name.endswith(ts.KINDS):
        return ts.parse(content, shown(path, 200)), content
    if name.endswith(tables.KINDS):
        return in_table(content, path, options, how.cut == "whole", like), content
    if name.endswith(arrays.KINDS):
        return in_arrays(content, path, options, how.key, how.cut), content
    raise DataError(
        f"{shown(path, 200)}: no file of series; known are {', '.join((*ts.KINDS, *tables.KINDS))}, npy, npz"
    )


def filled(how: Cutting, found: Recorded, where: str) -> Cutting:
    """Return how to cut, filled in. Raises DataError for series without steps, or shorter than a window."""
    steps = [len(s) for s in found.series]
    if not steps or min(steps) == 0:
        which = f"series {steps.index(0) + 1} has" if steps and len(steps) > 1 else "the series has"
        raise DataError(f"{where}: {which} no steps; leave it out")
    cut = how.cut or ("whole" if len(steps) >= FEWEST else "windows")
    if cut == "whole":
        if min(steps) != max(steps):
            raise DataError(
                f"{where}: series of {min(steps)} to {max(steps)} steps are no examples of one size; cut them: "
                f"file:...#windows/{max(2, min(steps) // 2)}"
            )
        if len(steps) == 1:
            raise DataError(f"{where}: one series is one example; cut it: file:...#windows/{WINDOW}")
        return Cutting(how.key, cut, steps[0], 0)
    length = how.length or max(2, min(WINDOW, min(steps) // 20))
    if length > min(steps):
        which = "the series" if len(steps) == 1 else f"series {steps.index(min(steps)) + 1}"
        raise DataError(f"{where}: windows of {length} steps are longer than {which} of {min(steps)} steps")
    return Cutting(how.key, cut, length, how.stride or max(1, length // OVERLAP))


def windows(x: np.ndarray, length: int, stride: int) -> np.ndarray:
    """Return the windows of (steps, columns) values, (n, length, columns), those that fit."""
    view = np.lib.stride_tricks.sliding_window_view(x, length, axis=0)[::stride]
    return view.swapaxes(1, 2)


def starts(steps: int, length: int, stride: int) -> np.ndarray:
    """Return the first step of each window."""
    return np.arange(0, steps - length + 1, stride)


def borders(steps: int, length: int, where: str) -> dict[str, tuple[int, int]]:
    """Return first and last step (exclusive) of train, validation and test; DataError where a window does not fit."""
    tenth = steps // 10
    if tenth < length:
        shorter = f", or shorter windows: file:...#windows/{tenth}" if tenth else ""
        raise DataError(
            f"{where}: validation and test have {tenth} of {steps} steps each, less than a window of {length}; give a "
            f"longer series{shorter}"
        )
    a, b = steps - 2 * tenth, steps - tenth
    return {"train": (0, a), "validation": (a, b), "test": (b, steps)}


def load_series(path: Path, words: str, options: Options, name: str) -> Dataset:
    """Return the set in a file of series; `words` as in `how_of`. Raises DataError, one line."""
    where = shown(path, 200)
    asked = how_of(words, where, path.name.lower().endswith(arrays.KINDS))
    found, content = recorded(path, asked, options, {})
    how = filled(asked, found, where)
    x = _stored(found, where)
    splits, rule = _whole(x, found, options, where) if how.cut == "whole" else _cut(x, found, how, options, where)
    of, filled_in = _steps(splits["train"].x), ~np.isnan(_steps(splits["train"].x))
    if not filled_in.any(0).all():
        empty = found.columns[int(np.argmin(filled_in.any(0)))]
        raise DataError(f"{where}: column {shown(empty)!r} has no value in the training split; --ignore it")
    constant = [found.columns[i] for i in np.flatnonzero(np.nanmax(of, axis=0) == np.nanmin(of, axis=0))]
    if len(constant) == len(found.columns):
        raise DataError(f"{where}: every column is constant in the training split: there is nothing to learn")
    values = [s.x for s in splits.values()]
    low_high, binarisation = facts_of(values)
    reading = {"series": True, **found.how, **how._asdict()}
    y = [s.y.max() for s in splits.values() if s.y is not None]
    classes = len(found.classes) or (int(max(y)) + 1 if y else None)
    return Dataset(
        name, shown(path.resolve(), 400), splits, splits["train"].x.shape[1:], low_high, classes,
        {shown(path.name, 200): digest(content)}, binarisation, rule, columns=found.columns, classes=found.classes,
        reading=reading, remarks=(_said(how, found), *found.remarks),
    )  # fmt: skip


def _said(how: Cutting, found: Recorded) -> str:
    total, many = sum(map(len, found.series)), len(found.series)
    of = f"{many} series of {how.length} steps" if how.cut == "whole" else f"{total:,} steps"
    of += f" in {many} series" if many > 1 and how.cut != "whole" else ""
    columns = f"columns: {names_of(list(found.columns))}" if len(found.columns) > 1 else "one column"
    cut = "" if how.cut == "whole" else f"windows of {how.length} steps, {how.stride} apart, of "
    return f"{cut}{of}, {columns}"


def _steps(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, x.shape[-1])


def _stored(found: Recorded, where: str) -> Series:
    """Return all series in float32 where that is exact, else float64; DataError for what is not finite."""
    for i, s in enumerate(found.series):
        check_finite(s, where if len(found.series) == 1 else f"{where}, series {i + 1}", missing=True)
    with np.errstate(over="ignore"):
        exact = all(np.array_equal(s.astype(np.float32).astype(np.float64), s, equal_nan=True) for s in found.series)
    return [s.astype(np.float32 if exact else np.float64) for s in found.series]


def _seen(windows: np.ndarray) -> np.ndarray:
    """Return which windows, or whole series, (n, steps, columns), hold a value at all."""
    return ~np.isnan(windows).all((1, 2))


def _numbered(found: Recorded, where: str) -> np.ndarray | None:
    """Return one label a series, or a step of the only one, as numbers."""
    if found.y is None:
        return None
    return found.y.astype(np.int32) if found.classes else as_labels(found.y, where)[0]


def _whole(x: Series, found: Recorded, options: Options, where: str) -> tuple[dict[str, Split], str]:
    y, stacked = _numbered(found, where), np.stack(x)
    if not (held := _seen(stacked)).all():
        raise DataError(f"{where}: series {int(np.argmin(held)) + 1}: every value is missing; leave it out")
    try:
        index, rule = divide(len(x), y, "blocks" if options.split == "blocks" else "random")
    except DataError as error:
        raise DataError(f"{where}: {error}; or cut them: file:...#windows") from None
    return {key: cut(stacked, y, take) for key, take in index.items()}, rule


def _cut(x: Series, found: Recorded, how: Cutting, options: Options, where: str) -> tuple[dict[str, Split], str]:
    """Return the windows of each part of the time axis; a window's label is that of its series, or its highest."""
    if options.split == "given" or (options.split == "random" and len(x) < FEWEST):
        raise DataError(
            f"{where}: windows of a series overlap: splits are blocks of time; leave --split away, or blocks"
        )
    y = _numbered(found, where)
    size = sum(len(s) for s in x) // how.stride * how.length * x[0].shape[1] * x[0].itemsize
    if size > memory() // 2:
        raise DataError(
            f"{where}: windows of {how.length} steps, {how.stride} apart, take {size / 2**30:.1f} GiB: use a stride, "
            f"file:...#windows/{how.length}/{how.length}"
        )
    parts: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    labels: dict[str, list[np.ndarray]] = {key: [] for key in parts}
    rule = "blocks of time: the last tenth of the steps is test, the tenth before it validation; no window crosses"
    of: dict[int, str] = {}  # many series: each in one split as a whole
    if len(x) >= FEWEST:
        index, rule = divide(len(x), y, "blocks" if options.split == "blocks" else "random")
        of, rule = {int(i): key for key, take in index.items() for i in take}, f"each series in one split, {rule}"
    for i, s in enumerate(x):
        for key, (a, b) in {of[i]: (0, len(s))}.items() if of else borders(len(s), how.length, where).items():
            made = windows(s[a:b], how.length, how.stride)
            held = _seen(made)
            parts[key].append(made[held])
            if y is not None:
                each = y[a:b] if found.stepwise else np.full(b - a, y[i], np.int32)
                labels[key].append(windows(each[:, None], how.length, how.stride)[..., 0].max(1)[held])
    if gone := [key for key, made in parts.items() if not sum(map(len, made))]:
        raise DataError(f"{where}: no window of {gone[0]} holds a value; give a longer series, or other windows")
    splits = {
        key: Split(np.ascontiguousarray(np.concatenate(made)), np.concatenate(labels[key]) if y is not None else None)
        for key, made in parts.items()
    }
    return splits, rule


def read_series(path: Path, words: str, options: Options, record: Mapping[str, Any] | None) -> Reading:
    """Return a file of series cut as a run's record says, or by `words`; windows are named by their start.

    Raises DataError for other columns, or series shorter than a window.
    """
    where, known = shown(path, 200), dict((record or {}).get("reading", {}))
    asked = how_of(words, where, path.name.lower().endswith(arrays.KINDS))
    if known.get("series"):
        length, stride = int(known["length"]), asked.stride or int(known["stride"]) or int(known["length"])
        asked = Cutting(asked.key or known.get("key", ""), known["cut"], length, stride)
    found, content = recorded(path, asked, options, known)
    if known.get("series"):
        found = _as_before(found, tuple((record or {}).get("columns") or ()), where)
        if known["cut"] == "whole" and {len(s) for s in found.series} != {asked.length}:
            raise DataError(f"{where}: the run was trained on series of {asked.length} steps, these have others")
        how = asked if known["cut"] == "whole" else filled(asked, found, where)
    else:
        how = filled(asked, found, where)
    x, y = _stored(found, where), _numbered(found, where)
    if how.cut == "whole":
        part = Part(np.stack(x), y, found.names or [str(i) for i in range(len(x))])
    else:
        part = _all_windows(x, y, found, how)
    reading = known or {"series": True, **found.how, **how._asdict()}
    sha256 = {shown(path.name, 200): digest(content)}
    return Reading({"all": part}, found.columns, found.classes, reading, found.remarks, sha256, how.cut != "whole")


def _all_windows(x: Series, y: np.ndarray | None, found: Recorded, how: Cutting) -> Part:
    names, labels = list[str](), list[np.ndarray]()
    for i, s in enumerate(x):
        at = starts(len(s), how.length, how.stride)
        held = _seen(windows(s, how.length, how.stride))
        at = at[held]
        said = [str(k) for k in at] if found.times is None else [found.times[k] for k in at]
        names += said if len(x) == 1 else [f"{i + 1}:{name}" for name in said]
        if y is not None:
            of = y if found.stepwise else np.full(len(s), y[i], np.int32)
            labels.append(windows(of[:, None], how.length, how.stride)[..., 0].max(1)[held])
    every = np.concatenate([windows(s, how.length, how.stride) for s in x])
    return Part(np.ascontiguousarray(every[_seen(every)]), np.concatenate(labels) if labels else None, names)


def _as_before(found: Recorded, wanted: Sequence[str], where: str) -> Recorded:
    """Return the series with the columns of a run, in its order; DataError where one is missing."""
    if found.columns == tuple(wanted):
        return found
    missing = [c for c in wanted if c not in found.columns]
    if missing and len(wanted) == len(found.columns) and not found.named:
        return found  # columns by number, under whatever names
    if missing:
        raise DataError(
            f"{where}: columns of the training data are not there: {names_of(missing)}; it has "
            f"{names_of([*found.columns])}"
        )
    take = [found.columns.index(c) for c in wanted]
    return found._replace(series=[s[:, take] for s in found.series], columns=tuple(wanted))


def looks_like(path: Path, words: str, options: Options) -> bool:
    """Whether a file is one of series without being called so: .ts, a table with a column of time, words for it."""
    name = path.name.lower()
    if name.endswith(ts.KINDS):
        return True
    if name.endswith(tables.KINDS):
        return bool(words) or times.first_column(path, options)
    return name.endswith(arrays.KINDS) and any(word in CUTS for word in words.split("/"))
