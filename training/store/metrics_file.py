"""metrics.jsonl: one JSON object a line, each with its `step`; never a row lost, repeated or half written.

Each row ends in a `digest` of itself and of the row before it (the first of itself and the run), so rows that were
changed, dropped or taken from another run are noticed.
"""

import errno
import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .errors import RunError
from .files import cannot, doing, open_to_append, read_bytes, to_json, write_text
from .schema import ROW, parse_json

NAME = "metrics.jsonl"


class Link(NamedTuple):
    """What the chain knows of a row: its step, and the digest of it and all rows before."""

    step: int
    digest: str


def link(before: str, row: dict[str, Any]) -> str:
    """Return the digest of a row that follows one of digest `before`."""
    return hashlib.sha256(f"{before}\0{to_json(row)}".encode()).hexdigest()[:32]


def parse(data: bytes, seed: str | None) -> tuple[list[dict[str, Any]], list[Link], str | None]:
    """Return the sound rows of a file, their links, and what is wrong with the line after them (None: nothing).

    A last line cut short by a kill is left out. `seed` is what the first row follows; None takes that row's word,
    and where no row carries a digest (a run of an older version) none is asked for.
    """
    lines = data.split(b"\n")  # the last item is what follows the last newline: empty, or a torn line
    rows: list[dict[str, Any]] = []
    links: list[Link] = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = parse_json(line, ROW)
        except ValueError:
            return rows, links, f"line {number} is no row of metrics: {line[:60].decode(errors='replace')!r}"
        found = row.pop("digest", "")
        before = links[-1].digest if links else seed
        if before is not None and found != link(before, row) and (seed is not None or before):
            what = "another run's or was changed" if len(links) == 0 else "changed, or the one before it is gone"
            return rows, links, f"line {number} is {what}: its digest does not match"
        rows.append(row)
        links.append(Link(row["step"], found))
    return rows, links, None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return all rows, without their digests; a last line cut short by a kill is left out, a missing file has none.

    Raises RunError naming a damaged line further up.
    """
    rows, _, wrong = parse(read_bytes(path) if path.exists() else b"", None)
    if wrong:
        raise RunError(f"{path}, {wrong}; delete that line")
    return rows


class MetricsFile:
    """Appends rows to metrics.jsonl; each is one write, in the file when `append` returns.

    `seed` is the run's name: the first row's digest contains it.
    """

    def __init__(self, path: Path, seed: str = ""):
        self.path, self.seed = path, seed
        self.links: list[Link] = []
        self.copy: Callable[[dict[str, Any]], None] | None = None  # gets every row once it is in the file
        self._file: Any = None

    def append(self, row: dict[str, Any]) -> None:
        """Write one row, which must have an integer `step`. Raises RunError for a full disk."""
        body = json.loads(to_json({**row, "step": int(row["step"])}))
        digest = link(self.links[-1].digest if self.links else self.seed, body)
        line = (to_json({**body, "digest": digest}) + "\n").encode()
        try:
            if self._file is None:
                self._file = open_to_append(self.path)
            size = self._file.seek(0, os.SEEK_END)
            if self._file.write(line) != len(line):
                self._file.truncate(size)  # no room for a whole row: rather none
                raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise cannot("write", self.path, error, len(line)) from error
        self.links.append(Link(body["step"], digest))
        if self.copy is not None:
            self.copy(body)

    def sync(self) -> None:
        """Flush to the disk, so that a checkpoint written after it never outlives its rows."""
        with doing("write", self.path):
            if self._file is not None:
                os.fsync(self._file.fileno())

    def at(self, step: float | int = math.inf) -> dict[str, Any]:
        """Return {"count", "digest"} of the rows up to `step`: what a checkpoint of that step remembers of them."""
        kept = [known for known in self.links if known.step <= step]
        return {"count": len(kept), "digest": kept[-1].digest if kept else ""}

    def rewind(self, step: int, expected: dict[str, Any] | None = None, accept: bool = False) -> list[str]:
        """Keep only the rows up to `step`, repairing a torn last line; return what else was dropped, in words.

        `expected` is what `at(step)` said when the checkpoint was written. Raises RunError, with nothing changed,
        when the rows are not those; with `accept` it keeps those that can be read.
        """
        rows, links, wrong = parse(read_bytes(self.path) if self.path.exists() else b"", self.seed)
        said = [] if wrong is None else [f"{self.path}, {wrong}; the rows from there on are written again"]
        self.links = list(itertools.takewhile(lambda known: known.step <= step, links))
        if expected is not None and self.at(step) != expected:
            if not accept:
                self._refuse(expected, wrong)
            said = [f"{self.path}: {len(self.links)} of {expected['count']} rows are left, as accepted"]
        self.close()
        if self.path.exists():
            kept = rows[: len(self.links)]
            lines = [to_json({**row, "digest": known.digest}) for row, known in zip(kept, self.links, strict=True)]
            write_text(self.path, "".join(line + "\n" for line in lines))
        return said

    def check(self, expected: dict[str, Any], accept: bool = False) -> list[dict[str, Any]]:
        """Return the rows; RunError unless they are exactly those of a finished run; `expected` as in `rewind`."""
        rows, self.links, wrong = parse(read_bytes(self.path) if self.path.exists() else b"", self.seed)
        if not accept and (wrong or self.at() != expected):
            self._refuse(expected, wrong)
        return rows

    def _refuse(self, expected: dict[str, Any], wrong: str | None) -> None:
        count = len(self.links)
        why = wrong or (
            f"it has {count} rows where {expected['count']} were written"
            if count != expected["count"]
            else "its rows are not those that the checkpoint knows"
        )
        if not self.path.exists():
            why = f"it is gone, {expected['count']} rows were written"
        raise RunError(f"{self.path} was changed since the run wrote it: {why}; to go on all the same: --accept rows")

    def close(self) -> None:
        """Close the file; the next `append` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None
