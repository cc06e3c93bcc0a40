"""Tables of numbers from csv files."""

import csv
from pathlib import Path

import numpy as np

from data.dataset import DataError


def read_csv(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a table of numbers (n, d) float64 and the column "label", "class" or "y" if a header names one.

    The first row is a header when none of its fields is a number. Raises DataError naming row and column of
    the first ragged row, empty field or text.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not readable as csv ({error})") from None
    if not rows:
        raise DataError(f"{path}: the file holds no rows")
    header = rows.pop(0) if not any(_is_number(f) for f in rows[0]) else None
    if not rows:
        raise DataError(f"{path}: the file holds a header but no rows")
    width = len(header) if header else len(rows[0])
    shift = 2 if header else 1
    for i, row in enumerate(rows):
        if len(row) != width:
            raise DataError(f"{path}: row {i + shift} has {len(row)} fields, the first row has {width}")
    names = [h.strip().lower() for h in header or []]
    at = next((names.index(k) for k in ("label", "class", "y") if k in names), None)
    y = None
    if at is not None:
        texts = [row.pop(at).strip() for row in rows]
        y = np.array([float(t) for t in texts]) if all(map(_is_number, texts)) else np.array(texts)
    try:
        return np.array(rows, dtype=np.float64).reshape(len(rows), -1), y
    except ValueError:
        i, j = next((i, j) for i, row in enumerate(rows) for j, f in enumerate(row) if not _is_number(f))
        raise DataError(
            f"{path}: row {i + shift}, column {j + 1}: {rows[i][j]!r} is not a number; only tables of "
            "numbers can be read (a header may name one column 'label')"
        ) from None


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
