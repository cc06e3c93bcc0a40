"""What makes a run folder one thing: run.json names the run and seals what its other files were when it wrote them.

    run             random, made with the folder; in every checkpoint and in the summary
    config          digest of config.json                 environment  digest of env.json
    notes           digests of command.txt and log.txt    data         digests of what was read, see `data_identity`
    earlier_data    those that the run was trained on before its user accepted others
    earlier_configs digests of config.json before its user added epochs
    digest          of all this

A row of metrics.jsonl carries a digest of itself and the row before, the first one of itself and the run. So a
checkpoint names the run, config, data and rows that belong to it, and nothing can be taken from another run.
"""

import hashlib
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from .errors import RunError
from .files import doing, open_to_append, read_bytes, write_json
from .schema import CONFIG, ENVIRONMENT, json_sha256, read_json, read_sealed, sealed

NAME = "run.json"
NOTES = ("command.txt", "log.txt")
VALUES_BYTES = 2**28  # data larger than this are known by their files alone

Accepted = Literal["data", "rows", "notes", "config"]
"""What a user may accept as changed: data under the same name, rows of metrics, notes for people, the config."""

_ALL_THE_SAME = "to go on all the same: --accept"
_NOTE = {"bytes": int, "sha256": str, "line": str}  # what stood there before, and the line that was appended last
_DATA = {"examples": {str: int}, "shape": [int], "files": {str: str}, "values": (str, None)}
_RECORD = {
    "run": str,
    "config": str,
    "environment": str,
    "notes": {str: _NOTE},
    "data": (_DATA, None),
    "earlier_data": [_DATA],
    "earlier_configs?": [str],
    "digest": str,
}


def data_identity(record: Mapping[str, Any], splits: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a data set was when it was read.

    Its number of examples in each split, the shape of one, the SHA-256 of every file, and one over the values of
    all splits where these are in memory and not over 256 MiB (else None). `record` is that of `data.Dataset`,
    `splits` hold arrays `x` and `y`.
    """
    total, size = hashlib.sha256(), 0
    for name, split in sorted(splits.items()):
        for part in (split.x, split.y):
            if part is None or not isinstance(part, np.ndarray):
                continue
            size += part.nbytes
            if size <= VALUES_BYTES:
                total.update(f"{name}\0{part.dtype.str}\0{part.shape}\0".encode())
                total.update(np.ascontiguousarray(part).data)
    return {
        "examples": {str(k): int(v) for k, v in record.get("splits", {}).items()},
        "shape": [int(n) for n in record.get("shape", ())],
        "files": {str(k): str(v) for k, v in record.get("sha256", {}).items()},
        "values": total.hexdigest() if 0 < size <= VALUES_BYTES else None,
    }


def data_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Return in words what differs between two identities of data; None where nothing does."""
    for split in sorted({*old["examples"], *new["examples"]}):
        before, now = old["examples"].get(split, 0), new["examples"].get(split, 0)
        if before != now:
            return f"{split} has {now} examples, {before} when the run began"
    if old["shape"] != new["shape"]:
        return f"an example is {new['shape']}, {old['shape']} when the run began"
    for name in sorted({*old["files"], *new["files"]}):
        if old["files"].get(name) != new["files"].get(name):
            before, now = (files.get(name, "absent")[:12] for files in (old["files"], new["files"]))
            return f"{name} has sha256 {now}..., {before}... when the run began"
    if None not in (old["values"], new["values"]) and old["values"] != new["values"]:
        return f"the values have sha256 {new['values'][:12]}..., {old['values'][:12]}... when the run began"
    return None


def check_data_of(source: Path, config: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Raise RunError if a run that repeats `source` (--from) reads other data than that did under the same name.

    A source without run.json, or another data set in `config`, cannot be compared.
    """
    if not (source / NAME).exists():
        return
    then = Identity.read(source).data
    same_name = read_json(source / "config.json", CONFIG).get("dataset") == config.get("dataset")
    if then is not None and same_name and (changed := data_difference(then, data)):
        raise RunError(f"the data are not those of {source}: {changed}; to take them all the same: --accept data")


class Identity(NamedTuple):
    """The content of run.json; see the head of this file."""

    run: str
    config: str
    environment: str
    notes: dict[str, dict[str, Any]]
    data: dict[str, Any] | None
    earlier_data: list[dict[str, Any]]
    earlier_configs: list[str] = []  # noqa: RUF012 - never changed in place

    @classmethod
    def new(cls, config: Any, environment: Any, data: dict[str, Any] | None) -> "Identity":
        """Return the identity of a run that begins with this config, environment and data."""
        return cls(uuid.uuid4().hex, json_sha256(config), json_sha256(environment), {}, data, [])

    @classmethod
    def read(cls, folder: Path) -> "Identity":
        """Return the identity of the run in a folder. Raises RunError, one line, where it has none or was changed."""
        path = folder / NAME
        if not path.exists():
            raise RunError(
                f"{folder} has no {NAME}: it was deleted, or a version without it made this run; nothing can tell "
                f"whether its files belong together: train again with --from {folder} and a new --run-dir"
            )
        record = _with_way_out(lambda: read_sealed(path, _RECORD), f"train again with --from {folder}")
        return cls(**{name: record[name] for name in cls._fields if name in record})

    def write(self, folder: Path) -> None:
        """Replace run.json. Raises RunError."""
        write_json(folder / NAME, sealed(self._asdict()))

    def stamp(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a checkpoint or a summary carries: run, config, data, and the rows of metrics so far."""
        return {"run": self.run, "config": self.config, "data": json_sha256(self.data), "rows": dict(rows)}

    def difference(self, stamp: Mapping[str, Any]) -> str | None:
        """Return in words why a stamp is not of this run; None where it is."""
        if stamp["run"] != self.run:
            return f"it is of another run ({stamp['run'][:12]}..., this one is {self.run[:12]}...)"
        if stamp["config"] not in (self.config, *self.earlier_configs):
            return "it is of another config"
        if stamp["data"] not in map(json_sha256, [self.data, *self.earlier_data]):
            return "it is of other data"
        return None

    def append(self, folder: Path, name: str, text: str) -> "Identity":
        """Append to a note and return the identity that seals it. Sealed first: a kill leaves what the seal knows."""
        path = folder / name
        before = read_bytes(path) if path.exists() else b""
        if before and not before.endswith(b"\n"):  # a kill cut the last line
            text = "\n" + text
        note = {"bytes": len(before), "sha256": _sha256(before), "line": text}
        new = self._replace(notes={**self.notes, name: note})
        new.write(folder)
        with doing("write", path), open_to_append(path) as file:
            file.write(text.encode())
        return new

    def seal_notes(self, folder: Path) -> "Identity":
        """Return the identity for which command.txt and log.txt are right as they are now, for `--accept notes`."""
        found = {name: read_bytes(folder / name) for name in NOTES if (folder / name).exists()}
        notes = {name: {"bytes": len(raw), "sha256": _sha256(raw), "line": ""} for name, raw in found.items()}
        return self._replace(notes=notes)

    def check_notes(self, folder: Path) -> None:
        """Raise RunError unless env.json, command.txt and log.txt are as this run left them.

        A line that a kill cut while it was being written is completed.
        """
        if json_sha256(read_environment(folder)) != self.environment:
            raise RunError(f"{folder / 'env.json'} was changed since the run wrote it; {_ALL_THE_SAME} notes")
        for name in NOTES:
            path, note = folder / name, self.notes.get(name)
            found = read_bytes(path) if path.exists() else b""
            if note is None and not found:
                continue
            size, line = (note["bytes"], note["line"].encode()) if note else (0, b"")
            rest = found[size:]
            if note is None or _sha256(found[:size]) != note["sha256"] or not line.startswith(rest):
                raise RunError(f"{path} was changed since the run wrote it; {_ALL_THE_SAME} notes")
            if rest != line:
                with doing("write", path), open_to_append(path) as file:
                    file.write(line[len(rest) :])


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _with_way_out(read: Any, way_out: str) -> Any:
    try:
        return read()
    except RunError as error:
        raise RunError(f"{error}; {way_out}") from None


def read_config(folder: Path, accept: Collection[str] = (), report: Any = print) -> dict[str, Any]:
    """Return config.json of a run, verified. Raises RunError where it was changed and "config" is not in `accept`.

    A run of a version without run.json is taken, and `report` is told that its config cannot be verified.
    """
    path = folder / "config.json"
    values = read_json(path, CONFIG)
    if "config" in accept:
        return values
    if not (folder / NAME).exists():
        report(f"{folder} has no {NAME} (an older run, or it was deleted): its config.json is taken unverified")
        return values
    known = Identity.read(folder)
    if json_sha256(values) not in (known.config, *known.earlier_configs):
        raise RunError(
            f"{path} is not the one that {NAME} knows: one of them was changed, or is another run's; for another run "
            f"use --from {folder} --accept config and a new --run-dir"
        )
    return values


def read_environment(folder: Path) -> dict[str, Any]:
    """Return env.json of a run. Raises RunError where it is missing or damaged."""
    return read_json(folder / "env.json", ENVIRONMENT)
