"""Who runs a trial: leases with a heartbeat, safe for several processes on a shared folder.

A lease is a file KEY.lease.N that only one process can create (O_CREAT | O_EXCL). N grows by one each time a dead
holder is replaced, so the holder of the highest N is the only one that may publish: N is the fencing token
(Lamport's and Burrows' sequencer). A holder shows life by touching its file. Taking over never removes or renames
another's lease, so two that take over at once cannot both succeed.
"""

import contextlib
import dataclasses
import functools
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def _start_of(pid: int) -> str:
    """Return when a process of this machine began (clock ticks since boot), "" where /proc does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _machine() -> str:
    """Return a name under which process ids are comparable: host, boot and process namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


MACHINE = _machine()


@functools.cache
def identity() -> dict[str, Any]:
    """Return what tells whether this process still lives."""
    return {"machine": MACHINE, "pid": os.getpid(), "start": _start_of(os.getpid())}


def is_dead(owner: dict[str, Any]) -> bool:
    """Whether the owner is known to be gone: a process of this machine that ended, or whose number was reused."""
    if owner.get("machine") != MACHINE or not isinstance(owner.get("pid"), int):
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return _start_of(owner["pid"]) != owner.get("start")


@dataclasses.dataclass(frozen=True)
class Lease:
    """The right to publish a trial; `number` is the fencing token and counts the holders so far."""

    folder: Path
    key: str
    number: int

    @property
    def path(self) -> Path:
        """The lease's file."""
        return self.folder / f"{self.key}.lease.{self.number}"

    def beat(self) -> None:
        """Show life. A lease that is gone stays gone."""
        with contextlib.suppress(OSError):
            os.utime(self.path)

    def holds(self) -> bool:
        """Whether this is still the newest lease of its trial."""
        return self.path.exists() and not dataclasses.replace(self, number=self.number + 1).path.exists()

    def release(self) -> None:
        """Give up the lease, and remove those of its dead predecessors; a lease that was lost stays as it is."""
        if not self.holds():
            return
        for number in range(self.number, 0, -1):
            dataclasses.replace(self, number=number).path.unlink(missing_ok=True)


def newest(folder: Path, key: str) -> int:
    """Return the number of the newest lease of a trial, 0 when there is none."""
    number = 0
    while (folder / f"{key}.lease.{number + 1}").exists():
        number += 1
    return number


def is_expired(lease: Lease, now: float, patience: float) -> bool:
    """Whether the holder is dead, or silent for `patience` seconds. `now` is the file system's own clock."""
    try:
        silent = now - lease.path.stat().st_mtime
        owner = json.loads(lease.path.read_text() or "{}")
    except FileNotFoundError:
        return False  # just released: look again
    except (OSError, ValueError, RecursionError):
        owner = {}
    return silent > patience or is_dead(owner if isinstance(owner, dict) else {})


def take(folder: Path, key: str, number: int) -> Lease | None:
    """Create lease `number` of a trial; None when another process was first."""
    lease = Lease(folder, key, number)
    try:
        fd = os.open(lease.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return None
    try:
        os.write(fd, json.dumps(identity()).encode())
    except OSError:
        lease.path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return lease


@contextlib.contextmanager
def heartbeat(leases: list[Lease], period: float) -> Iterator[None]:
    """Touch the leases every `period` seconds from a thread while the block runs."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(period):
            for lease in list(leases):
                lease.beat()

    thread = threading.Thread(target=run, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
