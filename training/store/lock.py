"""One process at a time in a run folder, by a lock that a killed owner cannot leave behind."""

import datetime
import fcntl
import json
import os
import socket
import time
from pathlib import Path

from .errors import RunError
from .files import cannot

NAME = ".lock"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class FolderLock:
    """An exclusive `flock` on `<folder>/.lock`; the kernel drops it when its process ends, however that is.

    Raises RunError at once, naming the owner (process, host, start), when another holds it.
    """

    def __init__(self, folder: Path):
        path = folder / NAME
        try:
            self._descriptor = os.open(path, _FLAGS, 0o644)
        except OSError as error:
            raise cannot("lock", path, error) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sign()
        except OSError as error:
            os.close(self._descriptor)
            if isinstance(error, BlockingIOError):
                raise RunError(
                    f"{folder} is in use by {_owner(path)}; wait for it or choose another --run-dir"
                ) from None
            raise cannot("lock", path, error) from error

    def _sign(self) -> None:
        started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(owner).encode(), 0)

    def release(self) -> None:
        """Let the next process in; calling it twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _owner(path: Path) -> str:
    for _ in range(20):  # the owner signs just after it has the lock
        try:
            owner = json.loads(path.read_text())
            return f"process {owner['pid']} on {owner['host']} (started {owner['started']})"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            time.sleep(0.01)
    return "another process"
