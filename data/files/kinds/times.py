"""Columns of time: found by name or place, read as dates or numbers, checked to rise; their step in words."""

import csv
import gzip
import zlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from data.errors import DataError, shown
from data.files import tables
from data.files.columns import Column, is_date
from data.options import Options

NAMES = ("timestamp", "time", "date", "datetime", "ds", "timestamps", "date_time")
_FORMATS = ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y")
_PEEK, SET_BACK = 65_536, 3


def dates(column: Column) -> bool:
    """Whether a column holds dates or times of day."""
    return column.text and all(is_date(str(v)) for v in column.values[:20].tolist())


def time_column(columns: Sequence[Column], ignore: Sequence[str] = ()) -> Column | None:
    """Return the column of time: one of dates that is first or called so; else a rising one of numbers called so."""
    kept = [c for c in columns if c.name not in ignore]
    called = lambda c: c.name.strip().lower() in NAMES
    for i, c in enumerate(kept):
        if dates(c) and (i == 0 or called(c)):
            return c
    for c in kept:
        if len(kept) > 1 and called(c) and not c.text and len(c.values) > 1 and bool((np.diff(c.values) > 0).all()):
            return c
    return None


def first_column(path: Path, options: Options) -> bool:
    """Whether the first lines of a table have a column of dates that is its time; parquet: by its types."""
    name = path.name.lower()
    try:
        if name.endswith(".parquet") or not path.is_file():  # a pipe would wait for ever
            return False
        opened = gzip.open(path) if name.endswith(".gz") else path.open("rb")
        with opened as file:
            text = file.read(_PEEK).decode("utf-8-sig", "ignore")
        lines = [line for line in text.splitlines()[:-1] or [text] if line.strip() and not line.startswith("#")][:21]
        rows = list(csv.reader(lines, delimiter=tables.separator_of(lines)))
    except (OSError, EOFError, zlib.error, csv.Error):
        return False  # told when the file is read
    names = tables.header(rows) if len({len(r) for r in rows}) == 1 and len(rows) > 1 else None
    if names is None or len(names) < 2:
        return False
    columns = [Column(n.strip(), np.array(f, object)) for n, f in zip(names, zip(*rows[1:], strict=True), strict=True)]
    found = time_column([c for c in columns if dates(c) or c.name not in options.ignore], options.ignore)
    return found is not None and dates(found)


def moments(column: Column, where: str, first_row: int) -> np.ndarray:
    """Return seconds of every row. Raises DataError for what is no date, and for rows out of order.

    Up to `SET_BACK` steps back are those of a clock that was set back: they are said, and rows stay as stored.
    """
    if not column.text:
        return column.values.astype(np.float64)
    fields = [str(v).strip() for v in column.values.tolist()]
    seconds = _seconds(fields)
    if seconds is None:
        bad = next((i for i, f in enumerate(fields) if _seconds([f]) is None), 0)
        raise DataError(
            f"{where}: row {bad + first_row}: {shown(fields[bad])!r} is no time that is read; write times as "
            "2014-07-01 00:30:00"
        )
    back = np.flatnonzero(np.diff(seconds) < 0)
    if len(back) > SET_BACK or (len(back) and len(fields) < 100):
        i = int(back[0])
        falls = bool((np.diff(seconds) < 0).all())
        raise DataError(
            f"{where}: rows are not in order of time: row {i + 1 + first_row} ({shown(fields[i + 1])}) is earlier than "
            f"row {i + first_row} ({shown(fields[i])}){', and so on to the end' if falls else ''}; sort the rows by "
            f"{shown(column.name)}, or read them as a table: --ignore {shown(column.name)}"
        )
    return seconds


def _seconds(fields: Sequence[str]) -> np.ndarray | None:
    """Return texts of dates as seconds; None where they are none, or of several forms."""
    try:
        plain = [f.replace("/", "-").removesuffix("Z") if f[:4].isdigit() else f for f in fields]
        return np.array(plain, "datetime64[us]").astype(np.int64) / 1e6
    except ValueError:
        pass
    for form in _FORMATS:
        try:
            first = datetime(1970, 1, 1)
            return np.array([(datetime.strptime(f, form) - first).total_seconds() for f in fields])
        except ValueError:
            continue
    if all(len(f.split(":")) in (2, 3) and ":" in f for f in fields):
        try:
            parts = [[float(p) for p in f.split(":")] for f in fields]
            return np.array([sum(p * 60.0 ** (2 - i) for i, p in enumerate(part)) for part in parts])
        except ValueError:
            return None
    return None


def said(seconds: np.ndarray, name: str, dated: bool) -> list[str]:
    """Return in words what a column of time says: its step, and how often another one lies between two rows."""
    gaps = np.diff(seconds)
    if not len(gaps):
        return []
    step = float(np.median(gaps))
    other = int((np.abs(gaps - step) > 1e-6 * max(1.0, abs(step))).sum())
    unit = f"{_spell(step)}" if dated else f"{step:g}"
    uneven = f", {other} of {len(gaps)} steps differ (the longest {_spell(float(gaps.max())) if dated else gaps.max()})"
    back = int((gaps < 0).sum())
    clock = f", {back} of them back in time: rows stay in stored order" if back else ""
    return [f"column {name!r} is time, in steps of {unit}{uneven if other else ''}{clock}"]


def places(seconds: np.ndarray) -> np.ndarray | None:
    """Return the place of every row on the grid of the commonest step, where some of its places have no row.

    None: every place has one, fewer than half have one, rows go back in time or lie between two places.
    """
    gaps = np.diff(seconds)
    step = float(np.median(gaps)) if len(gaps) else 0.0
    if step <= 0:
        return None
    whole = np.rint(gaps / step)
    if (whole < 1).any() or (np.abs(gaps / step - whole) > 1e-6).any() or not 1 < whole.sum() / len(gaps) <= 2:
        return None
    return np.concatenate([[0], np.cumsum(whole)]).astype(np.int64)


def _spell(seconds: float) -> str:
    for size, word in ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute")):
        if seconds >= size and abs(seconds / size - round(seconds / size)) < 1e-9:
            n = round(seconds / size)
            return f"{n} {word}{'s' * (n != 1)}"
    return f"{seconds:g} seconds"
