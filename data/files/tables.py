"""Tables from csv and tsv text (gzipped or not) and parquet: separator, header and decimal comma recognised."""

import csv
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import names_of
from data.errors import DataError, shown
from data.files.columns import Column, Numbers, is_date, is_missing, is_number, numbers_of, numeric
from data.files.formats import gunzip
from data.options import Options

KINDS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
MOST_COLUMNS = 100_000
_SEPARATORS = (",", ";", "\t", "|")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
_PERCENT = re.compile(r"\s*[+-]?[\d.,]*\d[\d.,]*\s*%\s*")
_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


def read_table(content: bytes, path: Path, options: Options, like: Mapping[str, Any]) -> Numbers:
    """Return the table in the bytes of a file as numbers; see `data.files.columns.numeric` for what is refused."""
    where = str(path)
    if path.name.lower().endswith(".parquet"):
        return numeric(parquet(content, where, like.get("ignore", options.ignore)), options, where, 1, like, True)
    text = decoded(gunzip(content, where) if content[:2] == b"\x1f\x8b" else content, where)
    columns, first_row, remarks = parse_text(text, where)
    found = numeric(columns, options, where, first_row, like, True)
    return found._replace(remarks=(*remarks, *found.remarks))


def decoded(content: bytes, where: str) -> str:
    """Return text of UTF-8 bytes (or UTF-16 with its mark); DataError naming the byte and what it would be."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: damaged UTF-16 text (byte {error.start})") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        seen = content[max(0, error.start - 8) : error.start + 8].decode("cp1252", "replace")
        raise DataError(
            f"{where}: not UTF-8: byte 0x{content[error.start]:02x} in line {line} (in Windows-1252 it would read "
            f"{shown(seen)!r}); convert it: iconv -f WINDOWS-1252 -t UTF-8"
        ) from None
    if "\0" in text[:10_000]:
        raise DataError(f"{where}: not a text: it holds zero bytes")
    return text


def parse_text(text: str, where: str) -> tuple[list[Column], int, tuple[str, ...]]:
    """Return the columns of a csv text, the number of its first row of values, and remarks.

    Raises DataError for no rows, rows of different lengths, and text that is no csv.
    """
    lines = text.splitlines()
    skip = 0
    while skip < len(lines) and (not lines[skip].strip() or lines[skip].startswith("#")):
        skip += 1
    comment = next((line for line in reversed(lines[:skip]) if line.startswith("#")), None)
    if skip == len(lines):
        raise DataError(f"{where}: the file holds no rows")
    separator = separator_of(lines[skip : skip + 50])
    try:
        cut = csv.reader(io.StringIO("\n".join(lines[skip:])), delimiter=separator, strict=True)
        rows = [row for row in (map(str.split, lines[skip:]) if separator == " " else cut) if row]
    except csv.Error as error:
        raise DataError(f"{where}: not readable as csv ({error})") from None
    rows, ended = _without_ends(rows)
    rows, signs = _without_signs(rows) if "%" in text else (rows, [])
    rows, comma = _decimal_comma(rows, separator)
    names = header(rows)
    first_row = skip + (1 if names is None else 2)
    named = {"\t": "tab", " ": "spaces"}.get(separator, repr(separator))
    remarks = [f"separator {named}"] if separator != "," else []
    remarks += ["decimal comma"] if comma else []
    remarks += ["separator at the end of every row passed over"] if ended else []
    if names is not None:
        if all(map(is_number, filter(None, names))):
            remarks.append(f"the first row is read as names: {shown(', '.join(names), 30)}")
        rows = rows[1:]
    elif comment is not None:  # numpy.savetxt writes its header so
        text = comment.lstrip("#")
        given = text.split() if separator == " " else [name.strip() for name in text.split(separator)]
        names = given if len(given) == len(rows[0]) else None
    if not rows:
        raise DataError(f"{where}: the file holds a header but no rows")
    width = len(names) if names is not None else len(rows[0])
    if width > MOST_COLUMNS:
        raise DataError(f"{where}: {width:,} columns are too many for a table; are rows and columns exchanged?")
    for i, row in enumerate(rows):
        if len(row) != width:
            raise DataError(f"{where}: row {i + first_row} has {len(row)} fields, the first row has {width}")
    names = names or [str(i + 1) for i in range(width)]
    remarks += [f"signs of per cent taken off: {names_of([names[j] for j in signs])}"] if signs else []
    columns = []
    for name, fields in zip(names, zip(*rows, strict=True), strict=True):
        values = numbers_of(fields)
        columns.append(Column(name.strip(), np.array(fields, dtype=object) if values is None else values))
    return columns, first_row, tuple(remarks)


def separator_of(lines: Sequence[str]) -> str:
    """Return the separator that cuts all lines into the same number of fields, the most fields first; else a comma.

    Spaces, however many, where no other one occurs and they cut every line alike.
    """
    best, fields = ",", 1
    for separator in _SEPARATORS:
        try:
            counts = {len(row) for row in csv.reader(lines, delimiter=separator) if row}
        except csv.Error:
            continue
        if len(counts) == 1 and (n := counts.pop()) > fields:
            best, fields = separator, n
    if fields == 1 and not any("," in line for line in lines):
        best = next((s for s in _SEPARATORS[1:] if any(s in line for line in lines)), ",")
        words = [line.split() for line in lines if line.strip()]
        if (
            best == ","
            and len({len(row) for row in words}) == 1
            and len(words[0]) > 1
            and any(map(is_number, words[-1]))
        ):
            best = " "  # runs of spaces, as numpy.savetxt writes
    return best


def _without_ends(rows: list[list[str]]) -> tuple[list[list[str]], bool]:
    """Return rows without the empty field after a separator at their ends, where all have one (the first may lack it).

    A column with a name stays, so that missing values are told.
    """
    width = len(rows[-1]) if len(rows) > 1 else 0
    ends = width > 1 and all(len(row) == width and not row[-1].strip() for row in rows[1:])
    if not ends or len(rows[0]) not in (width - 1, width):
        return rows, False
    named = rows[0][: width - 1]
    return (rows, False) if any(map(str.strip, rows[0][width - 1 :])) else ([named, *(r[:-1] for r in rows[1:])], True)


def _without_signs(rows: list[list[str]]) -> tuple[list[list[str]], list[int]]:
    """Take the sign of per cent off the columns of which every value has one; return the rows, and which columns."""
    body, width = rows[1:] or rows, min(map(len, rows))
    fields = ([row[j] for row in body if not is_missing(row[j])] for j in range(width))
    signs = [j for j, given in enumerate(fields) if given and all(map(_PERCENT.fullmatch, given))]
    for row in rows:
        for j in signs:
            row[j] = row[j].replace("%", "") if _PERCENT.fullmatch(row[j]) else row[j]
    return rows, signs


def _decimal_comma(rows: list[list[str]], separator: str) -> tuple[list[list[str]], bool]:
    """Turn decimal commas into points, where fields hold some and no field holds a decimal point.

    Between commas that separate, 1,000 is a thousand rather than one: it stays, and is refused as no plain number.
    """
    body = rows[1:] or rows
    some = [f.strip() for row in body[:200] for f in row if _COMMA.fullmatch(f.strip())]
    thousands = separator == "," and all(map(_THOUSANDS.fullmatch, some))
    if not some or thousands or any("." in f and is_number(f) for row in body for f in row):
        return rows, False
    swap = lambda f: f.replace(",", ".") if _COMMA.fullmatch(f.strip()) else f
    return [[swap(f) for f in row] for row in rows], True


def header(rows: Sequence[Sequence[str]]) -> list[str] | None:
    """Return the first row if it holds names, else None.

    It does when a field is text above numbers, or all its fields are texts that never occur below; also when its fields
    are consecutive whole numbers (the first perhaps empty), as pandas and spreadsheets number columns.
    """
    first, body = list(rows[0]), rows[1:]
    if not body or len({len(r) for r in rows[:50]}) > 1:
        texts = [f for f in first if f.strip() and not is_number(f)]
        return (
            first
            if texts and len(texts) == len([f for f in first if f.strip()]) and not any(map(is_date, texts))
            else None
        )
    below = [[row[j] for row in body[:200]] for j in range(len(first))]
    numbers = [f.strip() for f in first if is_number(f)]
    named = all(f.isdigit() for f in numbers) and _counting(numbers)  # 5.1 beside a text is a row with a bad field
    for field, values in zip(first, below, strict=True):
        if named and not (is_number(field) or is_missing(field)) and all(is_number(v) or is_missing(v) for v in values):
            return first
        if named and not (is_number(field) or is_missing(field) or is_date(field)) and all(map(is_date, values)):
            return first
    if all(f.strip() and not is_number(f) and not is_date(f) and f not in v for f, v in zip(first, below, strict=True)):
        return first
    counted = first[1:] if not first[0].strip() else first
    if len(counted) > 1 and all(f.strip().isdigit() for f in counted):
        whole = [int(f) for f in counted]
        steps = all(b - a == 1 for a, b in itertools.pairwise(whole))
        clear = len(counted) < len(first) or len(counted) > 3 or any("." in f for row in body[:200] for f in row)
        if steps and clear and not _counting(body[0]):
            return first
    return None


def _counting(row: Sequence[str]) -> bool:
    """Whether a row of values is itself consecutive whole numbers."""
    if not all(f.strip().lstrip("+-").isdigit() for f in row):
        return False
    whole = [int(f) for f in row]
    return all(b - a == 1 for a, b in itertools.pairwise(whole))


def parquet(content: bytes, where: str, ignore: Sequence[str] = ()) -> list[Column]:
    """Return the columns of a parquet file; DataError without pyarrow, for damage, and for nested columns."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(f"{where}: reading parquet needs pyarrow: pip install pyarrow") from None
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{where}: damaged parquet file ({' '.join(str(error).split())[:150]})") from None
    columns = []
    for name in table.column_names:
        column, kind = table.column(name), table.schema.field(name).type
        if name in ignore and pa.types.is_nested(kind):
            values = np.array(["ignored"] * len(column), dtype=object)
        elif pa.types.is_nested(kind) or pa.types.is_binary(kind):
            raise DataError(
                f"{where}: column {name!r} holds values of type {kind}, not numbers or texts; --ignore {name}"
            )
        elif pa.types.is_temporal(kind):
            values = np.array([str(v) for v in column.to_pylist()], dtype=object)
        elif (
            pa.types.is_boolean(kind)
            or pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_decimal(kind)
        ):
            values = np.array([np.nan if v is None else float(v) for v in column.to_pylist()], np.float64)
        else:
            values = np.array(["" if v is None else str(v) for v in column.to_pylist()], dtype=object)
        columns.append(Column(name, values))
    if not columns or not len(columns[0].values):
        raise DataError(f"{where}: the file holds no rows")
    return columns
