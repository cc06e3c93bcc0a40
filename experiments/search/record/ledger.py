"""The record of a sweep: one file per trial, in a folder that several processes may share.

    sweep.json            what the sweep searches; another space is refused
    trials/KEY.json       spec, result and timing of a finished trial, with a digest; never rewritten
    trials/KEY.lease.N    who runs the trial now (see `lease`)
    trials/KEY.damaged.N  a file that was not what its digest says, set aside; its trial runs again

A result is written to a temporary name and linked to its final one, which fails when a result exists: so a
reader sees all of it or nothing, and a trial has one result whatever is killed. A full disk raises OSError and
leaves nothing half-written under a final name.
"""

import contextlib
import itertools
import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from experiments.search.record import lease as leases
from experiments.search.record.lease import Lease
from training.store.files import json_ready
from training.store.trial import decode, encode

Record = dict[str, Any]
PROCESS = uuid.uuid4().hex[:12]
_counter = itertools.count()


def _token() -> str:
    """Return a name that no other process, on any machine, uses."""
    return f"{os.getpid()}-{PROCESS}-{next(_counter)}"


class LedgerError(RuntimeError):
    """The folder cannot be the record of this sweep; the message is one line that says why."""


FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "spec": {},
    "result": {"status": str, "reason": str, "metrics": dict},
    "timing": {"ended": (int, float), "seconds": (int, float), "machine": str, "pid": int},
}


def is_record(record: Any) -> bool:
    """Whether what a file holds has the fields of a record and their types; its spec is compared with the plan's."""
    parts = isinstance(record, dict) and all(
        isinstance(record.get(part), dict) and all(isinstance(record[part].get(n), t) for n, t in fields.items())
        for part, fields in FIELDS.items()
    )
    if not parts or not isinstance(record.get("key"), str):
        return False
    numbers = record["result"]["metrics"].values()
    return all(isinstance(v, (int, float)) or v in ("nan", "inf", "-inf") for v in numbers)


def _write(path: Path, data: bytes, durable: bool) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def _link(temporary: Path, path: Path) -> bool:
    """Give a written file its final name; False when that name exists."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links: the lease alone keeps others away
        if path.exists():
            return False
        os.rename(temporary, path)
    return True


class Ledger:
    """The trials of a sweep in `folder`. `patience`: seconds of silence after which a lease is taken over."""

    def __init__(self, folder: str | Path, patience: float = 60.0) -> None:
        self.folder, self.patience = Path(folder), patience
        self.trials = self.folder / "trials"
        self.damaged: list[str] = []  # names of files set aside by this process

    def open(self, fingerprint: Mapping[str, Any], resume: bool = False) -> None:
        """Create the ledger, or go on with one. Raises LedgerError when it is of another space or not writable."""
        path = self.folder / "sweep.json"
        wanted = json.loads(json.dumps(json_ready(fingerprint)))
        try:
            if not resume and path.exists():
                raise LedgerError(f"{self.folder} holds a sweep; add --resume to go on with it, or another --out")
            if not path.exists():
                self.trials.mkdir(parents=True, exist_ok=True)
                self._write_new(path, (json.dumps(wanted, indent=1, sort_keys=True) + "\n").encode(), durable=True)
            found = json.loads(path.read_text())
            self.trials.mkdir(exist_ok=True)
            self._probe()
        except OSError as error:
            raise LedgerError(f"cannot write in {self.folder}: {error.strerror}") from None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise LedgerError(f"{path} is damaged: remove it and add --resume to go on with the trials")
        if found != wanted:
            what = ", ".join(_differences(found, wanted))
            raise LedgerError(f"{self.folder} is the ledger of another sweep; different: {what}")
        self._tidy()

    def _probe(self) -> float:
        """Return the file system's time, which on a shared folder need not be this machine's."""
        path = self.folder / f".clock-{_token()}"
        path.touch()
        now = path.stat().st_mtime
        path.unlink(missing_ok=True)
        return now

    def _tidy(self) -> None:
        """Remove what dead processes left: unfinished temporary files and leases of finished trials."""
        now, names = self._probe(), set(os.listdir(self.trials))
        for name in names:
            path = self.trials / name
            with contextlib.suppress(OSError):
                if name.startswith(".tmp-") and now - path.stat().st_mtime > self.patience:
                    path.unlink()
                elif ".lease." in name and name.partition(".lease.")[0] + ".json" in names:
                    path.unlink()

    def _write_new(self, path: Path, data: bytes, durable: bool) -> bool:
        """Create `path` with `data`, whole or not at all; False when it exists."""
        return self._write_all([(path, data, durable)])[0]

    def _write_all(self, files: Sequence[tuple[Path, bytes, bool]]) -> list[bool]:
        """Create files, each whole or not at all; False for one that exists. Syncs run side by side: one commit
        of the file system's journal then serves many of them."""
        names = [path.parent / f".tmp-{_token()}-{path.name}" for path, _, _ in files]
        try:
            jobs = [(name, data, durable) for name, (_, data, durable) in zip(names, files, strict=True)]
            if sum(durable for *_, durable in jobs) > 1:
                with ThreadPoolExecutor(min(len(jobs), 16)) as pool:
                    list(pool.map(lambda job: _write(*job), jobs))
            else:
                for job in jobs:
                    _write(*job)
            return [_link(name, path) for name, (path, _, _) in zip(names, files, strict=True)]
        finally:
            for name in names:
                name.unlink(missing_ok=True)

    def finished(self) -> set[str]:
        """Return the keys of trials that have a result file."""
        return {n[:-5] for n in os.listdir(self.trials) if n.endswith(".json") and not n.startswith(".")}

    def read(self, key: str) -> Record | None:
        """Return the record of a trial, None when it has none; a damaged file is set aside and counts as none."""
        path = self.trials / f"{key}.json"
        try:
            record = decode(path.read_bytes())
        except FileNotFoundError:
            return None
        if not is_record(record) or record["key"] != key:
            self._set_aside(path)
            return None
        return record

    def _set_aside(self, path: Path) -> None:
        for n in itertools.count(1):
            aside = path.with_suffix(f".damaged.{n}")
            with contextlib.suppress(FileExistsError):
                aside.touch(exist_ok=False)
                break
        try:
            os.rename(path, aside)
        except FileNotFoundError:  # another process set it aside
            aside.unlink()
        else:
            good = decode(aside.read_bytes())
            if is_record(good) and good["key"] == path.stem:  # another process had mended it meanwhile
                os.link(aside, path)
                aside.unlink()
            else:
                self.damaged.append(path.name)

    def claim(self, keys: Iterable[str]) -> list[Lease]:
        """Return leases of those trials that have no result and no living holder."""
        taken, now = [], None
        for key in keys:
            result = self.trials / f"{key}.json"
            if result.exists():
                continue
            if number := leases.newest(self.trials, key):
                now = now or self._probe()
                if not leases.is_expired(Lease(self.trials, key, number), now, self.patience):
                    continue
            got = leases.take(self.trials, key, number + 1)
            if got is not None and result.exists():  # published, and its lease released, since we looked
                got.release()
            elif got is not None:
                taken.append(got)
        return taken

    def publish(self, lease: Lease, spec: Mapping[str, Any], result: Mapping[str, Any], seconds: float = 0.0) -> bool:
        """Record the result of a trial; False when its lease was lost or it has one, and nothing is written."""
        return self.publish_all([(lease, spec, result, seconds)]) == [lease.key]

    def publish_all(self, done: Sequence[tuple[Lease, Mapping[str, Any], Mapping[str, Any], float]]) -> list[str]:
        """Record (lease, spec, result, seconds) of several trials; return the keys that were recorded here.

        A result that took more than half a second to make is synced to the disk; a cheaper one is not worth the
        sync: if power fails, its damaged file is found by the digest and the trial runs again.
        """
        files = []
        kept = [entry for entry in done if entry[0].holds()]
        for lease, spec, result, seconds in kept:
            timing = {"ended": time.time(), "seconds": seconds, "holder": lease.number, **leases.identity()}
            data = encode({"key": lease.key, "spec": spec, "result": result, "timing": timing})
            files.append((self.trials / f"{lease.key}.json", data, seconds > 0.5))
        written = self._write_all(files)
        for lease, *_ in kept:
            lease.release()
        return [entry[0].key for entry, new in zip(kept, written, strict=True) if new]

    def heartbeat(self, held: list[Lease]) -> contextlib.AbstractContextManager[None]:
        """Keep leases alive while a block runs."""
        return leases.heartbeat(held, self.patience / 6)


def _differences(found: Any, wanted: Any, prefix: str = "") -> list[str]:
    """Return what two fingerprints disagree on, as `name (was a, is b)`."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = sorted(found.keys() | wanted.keys())
        parts = [_differences(found.get(n), wanted.get(n), f"{prefix}{n}.") for n in names]
        return [text for part in parts for text in part][:4]
    return [] if found == wanted else [f"{prefix[:-1]} (was {_short(found)}, is {_short(wanted)})"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
