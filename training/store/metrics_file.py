"""metrics.jsonl: one JSON object a line, each with its `step`; never a row lost, repeated or half written."""

import json
import os
from pathlib import Path
from typing import Any

from .errors import RunError
from .files import cannot, doing, to_json, write_text

NAME = "metrics.jsonl"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return all rows; a last line cut short by a kill is left out, a missing file has none.

    Raises RunError naming a damaged line further up.
    """
    with doing("read", path):
        text = path.read_bytes().decode(errors="replace") if path.exists() else ""
    lines = text.split("\n")  # the last item is what follows the last newline: empty, or a torn line
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            rows.append(json.loads(line))
            rows[-1]["step"] + 0
        except (ValueError, TypeError, KeyError):
            raise RunError(f"{path}, line {number} is no row of metrics: {line[:60]!r}; delete that line") from None
    return rows


class MetricsFile:
    """Appends rows to metrics.jsonl; each is one write, in the file when `append` returns."""

    def __init__(self, path: Path):
        self.path = path
        self._file: Any = None

    def append(self, row: dict[str, Any]) -> None:
        """Write one row, which must have an integer `step`. Raises RunError for a full disk."""
        line = to_json({**row, "step": int(row["step"])}) + "\n"
        try:
            if self._file is None:
                self._file = open(self.path, "ab", buffering=0)
            size = self._file.seek(0, os.SEEK_END)
            if self._file.write(line.encode()) != len(line.encode()):
                self._file.truncate(size)  # no room for a whole row: rather none
                raise OSError(28, "No space left on device")
        except OSError as error:
            raise cannot("write", self.path, error) from error

    def sync(self) -> None:
        """Flush to the disk, so that a checkpoint written after it never outlives its rows."""
        with doing("write", self.path):
            if self._file is not None:
                os.fsync(self._file.fileno())

    def rewind(self, step: int) -> int:
        """Keep only the rows up to `step`, repairing a torn last line; return how many rows were dropped."""
        rows = read_metrics(self.path)
        kept = [row for row in rows if row["step"] <= step]
        self.close()
        if self.path.exists():
            write_text(self.path, "".join(to_json(row) + "\n" for row in kept))
        return len(rows) - len(kept)

    def close(self) -> None:
        """Close the file; the next `append` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None
