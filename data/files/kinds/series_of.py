"""Series as files hold them, before they are cut: of a table, whose rows are steps or whole series, and of arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.errors import DataError, counted, shown
from data.files import arrays, tables
from data.files.columns import Column, numeric
from data.files.formats import gunzip
from data.files.kinds import times
from data.options import Options


class Recorded(NamedTuple):
    """Series as read.

    series: each (steps, columns) numbers. columns: their names. y: a label a series, or (`stepwise`) a step of the only
    one. classes: names of the labels' numbers. times: names of the steps of the only series. how: what reading
    another file so needs. named: whether the columns have names of their own.
    """

    series: list[np.ndarray]
    columns: tuple[str, ...]
    y: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    times: list[str] | None = None
    names: list[str] | None = None
    how: Mapping[str, Any] = {}
    remarks: tuple[str, ...] = ()
    stepwise: bool = False
    named: bool = False


def in_table(content: bytes, path: Path, options: Options, whole: bool, like: Mapping[str, Any]) -> Recorded:
    """Return a table's series: one whose steps are the rows, or (`whole`) one a row.

    Raises DataError as `data.files.columns.numeric` does, and for rows that are not in order of time.
    """
    where = shown(path, 200)
    columns, first_row, remarks = _columns(content, path, options)
    ignore = like.get("ignore", options.ignore)
    time = None if whole else times.time_column(columns, ignore)
    if time is not None:
        seconds = times.moments(time, where, first_row)
        remarks += tuple(times.said(seconds, time.name, time.text))
        columns = [c for c in columns if c is not time]
        if not columns:
            raise DataError(f"{where}: no column beside that of time, {shown(time.name)}")
    table = numeric(columns, options, where, first_row, like if "label" in like else {}, missing=True, steps=not whole)
    how = {**table.how, "time": None if time is None else time.name}
    said = (*remarks, *table.remarks)
    if whole:
        return Recorded(
            [row[:, None] for row in table.x], ("value",), table.y, names=table.names, how=how, remarks=said
        )
    named = None if time is None else [str(v) for v in time.values.tolist()]
    stepwise = table.y is not None
    found = Recorded(
        [table.x],
        table.columns,
        table.y,
        times=named or table.names,
        how=how,
        remarks=said,
        stepwise=stepwise,
        named=True,
    )
    place = None if time is None or (like and not like.get("missing")) else times.places(seconds)
    return found if place is None or time is None else _spread(found, place, time.name)


def _spread(found: Recorded, place: np.ndarray, time: str) -> Recorded:
    """Return a series with missing values at the steps that its time leaves out; labels are those of the row before."""
    before = np.searchsorted(place, np.arange(place[-1] + 1), side="right") - 1
    after = np.arange(place[-1] + 1) - place[before]
    x = np.where(after[:, None] > 0, np.nan, found.series[0][before])
    names = found.times or []
    named = [f"{names[i]} +{k}" if k else names[i] for i, k in zip(before.tolist(), after.tolist(), strict=True)]
    said = counted(int((after > 0).sum()), "step", "has no row: a missing value", "have no row: missing values")
    return found._replace(
        series=[x],
        y=None if found.y is None else found.y[before],
        times=named,
        how={**found.how, "missing": True},
        remarks=(*found.remarks, f"{said}; rows as they are: --ignore {shown(time)} and #windows"),
    )


def _columns(content: bytes, path: Path, options: Options) -> tuple[list[Column], int, tuple[str, ...]]:
    where = shown(path, 200)
    if path.name.lower().endswith(".parquet"):
        return tables.parquet(content, where, options.ignore), 1, ()
    text = tables.decoded(gunzip(content, where) if content[:2] == b"\x1f\x8b" else content, where)
    return tables.parse_text(text, where)


def in_arrays(content: bytes, path: Path, options: Options, key: str, cut: str) -> Recorded:
    """Return an array's series: (steps,), (steps, columns) one, for `cut` whole (n, steps); (n, steps, columns) n.

    Raises DataError for other shapes, values that are no numbers and splits in the file.
    """
    where = shown(path, 200)
    parts, remarks = arrays.parts_of(arrays.arrays_of(content, path), where, key, options.label)
    if "all" not in parts:
        raise DataError(f"{where}: series with splits of their own are not read; choose one: file:{where}#NAME/windows")
    x, y = parts["all"].x, parts["all"].y
    if x.dtype.kind not in "buif" or not 1 <= x.ndim <= 3:
        raise DataError(
            f"{where}: series are (steps,), (steps, columns) or (n, steps, columns) numbers, got {x.dtype} {x.shape}"
        )
    x = x.astype(np.float64)
    many = x.ndim == 3 or (x.ndim == 2 and cut == "whole")
    series = list(x if x.ndim == 3 else x[..., None]) if many else [x[:, None] if x.ndim == 1 else x]
    width = series[0].shape[1] if series else x.shape[-1]
    columns = ("value",) if width == 1 else tuple(str(i + 1) for i in range(width))
    if y is not None and len(y) != (len(series) if many else len(series[0])):
        raise DataError(f"{where}: {len(y)} labels for {len(series) if many else len(series[0])} series or steps")
    how: dict[str, Any] = {"label": options.label, "ignore": []}
    holes = counted(int(np.isnan(x).sum()), "value", "is", "are")
    how |= {"missing": True} if np.isnan(x).any() else {}
    remarks += [f"{holes} missing (nan), of {x.size:,}; left out of every loss"] if np.isnan(x).any() else []
    said = [] if many or x.ndim == 1 else [f"rows are steps in order of time, their {width} numbers columns"]
    return Recorded(series, columns, y, how=how, remarks=(*remarks, *said), stepwise=y is not None and not many)
