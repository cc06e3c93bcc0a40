"""Series in the text format of the UEA and UCR archives (.ts, as sktime and aeon read it).

    @problemName ECG5000 / @univariate true / @classLabel true 1 2 3 / @data / 0.1,0.2,...:0.3,0.4,...:1

One series a line; dimensions between colons, the class after the last one; ? is a missing value.
"""

import numpy as np

from data.errors import DataError, counted, shown
from data.files.kinds.series_of import Recorded
from data.files.tables import decoded

KINDS = (".ts",)


def parse(content: bytes, where: str) -> Recorded:
    """Return the series of a .ts file. Raises DataError, one line, for damage, and time stamps."""
    text = decoded(content, where)
    head: dict[str, list[str]] = {}
    rows: list[tuple[int, str]] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if rows or "data" in head:
            rows.append((number, line))
        elif line.startswith("@"):
            word, *rest = line[1:].split()
            head[word.lower()] = rest
        else:
            raise DataError(f"{where}, line {number}: {shown(line, 40)!r} before @data is no line of a .ts file")
    if "data" not in head:
        raise DataError(f"{where}: a .ts file without @data: it is cut short, or of another kind")
    if not rows:
        raise DataError(f"{where}: no series after @data")
    true = lambda word: head.get(word, ["false"])[0].lower() == "true"
    if true("timestamps"):
        raise DataError(f"{where}: @timeStamps true is not read; write the values alone, or csv with a column of time")
    if true("targetlabel"):
        raise DataError(f"{where}: @targetLabel (a real number a series) is not read; set it to false and cut it off")
    classes = tuple(head.get("classlabel", ["false"])[1:]) if true("classlabel") else ()
    series, labels = [], []
    for number, line in rows:
        parts = line.split(":")
        if classes:
            label = parts.pop().strip()
            if label not in classes:
                raise DataError(f"{where}, line {number}: class {shown(label)!r} is none of {', '.join(classes)}")
            labels.append(classes.index(label))
        series.append(_values(parts, f"{where}, line {number}"))
    widths = {s.shape[1] for s in series}
    if len(widths) > 1:
        raise DataError(f"{where}: series of {min(widths)} to {max(widths)} dimensions; all need the same")
    columns = tuple(f"dimension {i + 1}" for i in range(widths.pop()))
    y = np.array(labels, np.int32) if classes else None
    remarks: tuple[str, ...] = (f"labels: classes {', '.join(classes)}",) if classes else ()
    gone = sum(int(np.isnan(s).sum()) for s in series)
    if gone:
        remarks += (f"{counted(gone, 'value', 'is', 'are')} missing; left out of every loss",)
    return Recorded(series, columns, y, classes, how={"missing": True} if gone else {}, remarks=remarks)


def _values(parts: list[str], where: str) -> np.ndarray:
    """Return the dimensions of a line as (steps, dimensions)."""
    rows = []
    for part in parts:
        fields = [f.strip() for f in part.split(",") if f.strip()]
        fields = ["nan" if f in ("?", "NaN") else f for f in fields]
        try:
            rows.append(np.array(fields, np.float64))
        except ValueError:
            bad = next(f for f in fields if not _is_number(f))
            raise DataError(f"{where}: {shown(bad, 40)!r} is not a number") from None
    lengths = {len(r) for r in rows}
    if len(lengths) > 1:
        raise DataError(f"{where}: dimensions of {min(lengths)} and {max(lengths)} steps in one series")
    return np.stack(rows, axis=1)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
