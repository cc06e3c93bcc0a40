"""From the columns of a table to numbers: which are labels, index, text, dates; what is missing.

A column is kept as numbers, turned into one column of zeros and ones per category, taken as the labels, or left out;
whatever is done is said. What cannot be done right is refused in one line with the way out.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data.dataset import names_of
from data.errors import DataError, counted, nearest, shown
from data.files.reading import missing_words
from data.options import Options

LABELS = (
    "label",
    "labels",
    "target",
    "targets",
    "class",
    "classes",
    "y",
    "species",
    "category",
    "outcome",
    "diagnosis",
)
INDEX = ("", "index", "id", "#", "rownames", "row", "__index_level_0__")
MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "none", "?", "-", "--", "missing", "<na>", "nat"))
MOST_CATEGORIES = 50
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ]\d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(:\d{2})?(\.\d+)?")
_ALMOST = re.compile(r"\W*[\d.,_' ]*\d[\d.,_' ]*\W*")


class Column(NamedTuple):
    """A named column: texts (object) or numbers."""

    name: str
    values: np.ndarray

    @property
    def text(self) -> bool:
        """Whether the values are not numbers."""
        return self.values.dtype.kind not in "buif"


class Numbers(NamedTuple):
    """A table as numbers (n, d), its column names, labels or None, index or None, and what was done."""

    x: np.ndarray
    columns: tuple[str, ...]
    y: np.ndarray | None
    names: list[str] | None
    how: dict[str, Any]
    remarks: tuple[str, ...]
    ordered: bool


def is_number(field: str) -> bool:
    """Whether a field is a plain decimal number; Python's 1_000, inf and nan are not."""
    return bool(_NUMBER.fullmatch(field.strip()))


def is_almost(field: str) -> bool:
    """Whether a field is digits with separators or a unit sign: 1_000, 1,000, 2%."""
    return len(field) < 40 and bool(_ALMOST.fullmatch(field))


def is_date(field: str) -> bool:
    """Whether a field looks like a date or a time."""
    return bool(_DATE.fullmatch(field.strip()))


def is_missing(field: str) -> bool:
    """Whether a field stands for a value that is not there."""
    return field.strip().lower() in MISSING


def numbers_of(fields: Sequence[str]) -> np.ndarray | None:
    """Return fields as float64 when all are plain numbers, else None."""
    try:
        values = np.array(fields, dtype=np.float64)
    except ValueError:
        return None
    if not np.isfinite(values).all() or any("_" in f for f in fields):
        return None
    return values


def numeric(
    columns: Sequence[Column],
    options: Options,
    where: str,
    first_row: int,
    like: Mapping[str, Any],
    missing: bool = False,
    steps: bool = False,
) -> Numbers:
    """Return a table's columns as numbers.

    first_row: number of the first row of values in the file, for messages. like: `how` of an earlier reading, whose
    columns, categories and label are used again; {} to find them. missing: whether values may be: they are nan, a
    missing category in all its columns. steps: rows are steps of a series, which may hold no value. Raises DataError
    for dates, missing values (allowed ones where a row or a column has no other), fields that are almost numbers,
    texts with too many values, columns that are not there.
    """
    remarks: list[str] = []
    if len({c.name for c in columns}) < len(columns):
        before, columns = columns, _unique(columns)
        renamed = [f"{a.name!r} is {b.name!r}" for a, b in zip(before, columns, strict=True) if a is not b]
        remarks.append(f"columns of one name, told apart: the next {names_of(renamed)}")
    ignore = like.get("ignore", options.ignore)
    kept, ordered = _without(columns, ignore, where, bool(like))
    if ignore:
        remarks.append(f"ignored: {names_of(list(ignore))}")
    kept, index = _index([_with_holes(c) for c in kept] if missing else kept, len(columns))
    if index is not None:
        remarks.append(f"column {index.name!r} is an index, not a value")
    label = _label(kept, like["label"] if like else options.label, where, bool(like))
    y = None
    if label is not None:
        kept = [c for c in kept if c is not label]
        y = _classes(label, where, first_row)
        remarks.append(f"labels: column {label.name!r}")
    every = np.column_stack([_holes_of(c) for c in kept]) if kept else np.zeros((1, 0), bool)
    infinite = any(not c.text and np.isinf(c.values.astype(float)).any() for c in kept)
    allowed = missing and not infinite and bool(like.get("missing") if like else not every.all(0).any())
    holes = missing_words([c.name for c in kept], every, where, first_row, allowed, steps)
    remarks += [holes] if holes else []
    categories = dict(like.get("categories", {}))
    arrays, names = [], []
    for column in kept:
        for name, values in _as_numbers(column, categories, where, first_row, bool(like)):
            names.append(name)
            arrays.append(values)
    if not arrays:
        raise DataError(f"{where}: no column of values is left")
    coded = [f"{name} ({counted(len(values), 'value')})" for name, values in categories.items()]
    if coded:
        remarks.append(f"text as one column of 0 and 1 per value: {names_of(coded)}")
    real = [c.name for c in kept if c.name.strip().lower() in LABELS and not c.text and not like]
    if real:
        remarks.append(f"column {real[0]!r} is kept as a value: it holds real numbers or many values")
    named = "none" if label is None else label.name
    how: dict[str, Any] = {"label": named, "ignore": list(ignore), "categories": categories}
    how |= {"missing": True} if holes or like.get("missing") else {}
    rows = None if index is None else [_shown_index(v) for v in index.values]
    return Numbers(np.column_stack(arrays), tuple(names), y, rows, how, tuple(remarks), ordered)


def _unique(columns: Sequence[Column]) -> list[Column]:
    """Return columns of different names: a second "a" is "a.2", or what is free after it."""
    taken, seen, out = {c.name for c in columns}, set(), []
    for c in columns:
        name = c.name
        if name in seen:
            name = next(free for k in itertools.count(2) if (free := f"{c.name}.{k}") not in taken)
            taken.add(name)
        seen.add(name)
        out.append(c if name == c.name else Column(name, c.values))
    return out


def _shown_index(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _find(columns: Sequence[Column], name: str, where: str) -> Column:
    """Return the column called `name`, or with that number (from 1); DataError naming the nearest."""
    for c in columns:
        if c.name == name:
            return c
    near = [c for c in columns if c.name.strip().lower() == name.strip().lower()]
    if len(near) == 1:
        return near[0]
    names = [c.name for c in columns]
    raise DataError(
        f"{where}: there is no column {name!r}; nearest: {nearest(name, names)}; it has {names_of(names, 12)}"
    )


def _without(columns: Sequence[Column], ignore: Sequence[str], where: str, like: bool) -> tuple[list[Column], bool]:
    """Return the columns not ignored, and whether one of those ignored holds dates: then the rows are ordered."""
    known = {c.name for c in columns}
    gone = [_find(columns, name, where) for name in ignore if not like or name in known]
    ordered = any(_dates(c) for c in gone)
    return [c for c in columns if not any(c is g for g in gone)], ordered


def _dates(column: Column) -> bool:
    if not column.text:
        return column.values.dtype.kind == "M"
    some = [str(v) for v in column.values[:20].tolist() if not is_missing(str(v))]
    return bool(some) and all(map(is_date, some))


def _index(columns: list[Column], width: int) -> tuple[list[Column], Column | None]:
    """Take off the first column when it only numbers or names the rows."""
    if width < 2 or not columns:
        return columns, None
    first = columns[0]
    called = first.name.strip().lower() in INDEX or first.name.startswith("Unnamed:")
    n = len(first.values)
    if first.text:
        names = called and len(set(first.values.tolist())) == n and not _dates(first)
        return (columns[1:], first) if names else (columns, None)
    counts = n > 1 and first.values.dtype.kind in "uif" and bool(np.array_equal(np.diff(first.values), np.ones(n - 1)))
    counts = counts and first.values[0] in (0, 1)
    ids = called and first.values.dtype.kind in "uif" and len(np.unique(first.values)) == n
    whole = ids and bool(np.array_equal(first.values, np.rint(first.values)))
    return (columns[1:], first) if counts or whole else (columns, None)


def _label(columns: list[Column], asked: str, where: str, like: bool) -> Column | None:
    """Return the column of labels: the one asked for, one called like a label, or the only text with few values."""
    if asked == "none":
        return None
    if asked:
        if like and asked not in {c.name for c in columns}:
            return None  # other data may come without labels
        return _find(columns, asked, where)
    if len(columns) < 2:
        return None
    for name in LABELS:
        for c in columns:
            if c.name.strip().lower() == name and _few(c):
                return c
    texts = [c for c in columns if _words(c)]
    return texts[0] if len(texts) == 1 and _few(texts[0]) else None


def _words(column: Column) -> bool:
    """Whether a column holds words: texts of which none is a number, a date or missing."""
    fields = [str(v) for v in column.values.tolist()] if column.text else []
    return bool(fields) and not any(is_number(f) or is_almost(f) or is_date(f) or is_missing(f) for f in fields)


def _few(column: Column) -> bool:
    """Whether a column's values can be classes: texts or whole numbers, few of them."""
    values = column.values if column.text else column.values[np.isfinite(column.values)]
    if not (_words(column) if column.text else np.isfinite(values).all() and np.array_equal(values, np.rint(values))):
        return False
    most = min(100, max(2, len(column.values) // 2))
    return 1 <= len(set(values.tolist())) <= most


def _classes(label: Column, where: str, first_row: int) -> np.ndarray:
    if label.text:
        for i, value in enumerate(label.values.tolist()):
            if is_missing(str(value)):
                raise DataError(
                    f"{where}: row {i + first_row}: the label (column {label.name!r}) is missing; "
                    "fill it, or --label none"
                )
        return np.array([str(v).strip() for v in label.values.tolist()])
    if label.values.dtype.kind == "f" and np.isnan(label.values).any():
        raise DataError(
            f"{where}: row {int(np.argmax(np.isnan(label.values))) + first_row}: the label (column {label.name!r}) is "
            "missing; fill it, or --label none"
        )
    if not (np.isfinite(label.values).all() and np.array_equal(label.values, np.rint(label.values))):
        raise DataError(f"{where}: column {label.name!r} holds real numbers, which are no classes; use --label none")
    return label.values


def _with_holes(column: Column) -> Column:
    """Return a column of numbers and missing values as numbers, nan where missing; any other as it is."""
    if not column.text:
        return column
    holes = _holes_of(column)
    known = numbers_of([str(v) for v in column.values[~holes].tolist()]) if holes.any() else None
    if known is not None:
        np.place(values := np.full(len(holes), np.nan), ~holes, known)
        return Column(column.name, values)
    return column


def _holes_of(column: Column) -> np.ndarray:
    """Return which values of a column are missing; of numbers, which are not finite."""
    if column.text:
        return np.array([is_missing(str(v)) for v in column.values.tolist()])
    return ~np.isfinite(column.values.astype(float))


def _as_numbers(
    column: Column, categories: dict[str, list[str]], where: str, first_row: int, like: bool
) -> list[tuple[str, np.ndarray]]:
    """Return the columns of numbers that one column becomes; new categories are added to `categories`."""
    if not column.text:
        if column.name in categories and np.isnan(column.values).all():
            return [(f"{column.name}={value}", column.values) for value in categories[column.name]]
        if column.name in categories:
            raise DataError(
                f"{where}: column {column.name!r} held texts ({names_of(categories[column.name])}), now numbers"
            )
        return [(column.name, column.values.astype(np.float64))]
    texts = [str(v).strip() for v in column.values.tolist()]
    known_texts = [t for t in texts if not is_missing(t)]
    where = f"{where}: column {shown(column.name)!r}"
    if column.name not in categories:
        if _dates(column):
            raise DataError(
                f"{where} holds dates ({shown(texts[0])!r}); leave it out with --ignore {shown(column.name)}, "
                "or write it as numbers"
            )
        for i, text in enumerate(texts):
            if is_number(text) or (is_almost(text) and not is_date(text)):
                wrong = next(((j, t) for j, t in enumerate(texts) if not is_number(t) and not is_missing(t)), (i, text))
                raise DataError(
                    f"{where}, row {wrong[0] + first_row}: {shown(wrong[1])!r} is not a number, others there are; "
                    f"write plain numbers, or --ignore {shown(column.name)}"
                )
        values = sorted(set(known_texts))
        if like:
            raise DataError(f"{where} held numbers, now texts such as {shown(texts[0])!r}")
        if len(values) > min(MOST_CATEGORIES, max(2, len(texts) // 2)):
            raise DataError(
                f"{where} is text with {len(values)} different values, too many for categories; "
                f"leave it out with --ignore {shown(column.name)}"
            )
        categories[column.name] = values
    known = categories[column.name]
    unseen = sorted(set(known_texts) - set(known))
    if unseen:
        raise DataError(
            f"{where} holds {shown(unseen[0])!r}, which was not there in training; known are {names_of(known)}"
        )
    coded = np.array([np.nan if is_missing(t) else known.index(t) for t in texts])
    each = lambda k: np.where(np.isnan(coded), np.nan, coded == k)
    return [(f"{column.name}={value}", each(k)) for k, value in enumerate(known)]
