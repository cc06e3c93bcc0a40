"""A process that outlives its parent by a moment: it ends what the parent started and could not end itself.

Started with a mark, NAME=VALUE. When its standard input closes, because the parent closed it or died, every process of
this user whose environment holds the mark is killed. Two of Ray's agents need it: they stay for more than a minute
after the driver and its raylet are gone (Ray 2.60).
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

SECONDS = 4.0  # how long to look for processes that were still being started


def marked(mark: str) -> list[int]:
    """Return the processes whose environment, as they were started, holds `mark`; none where there is no /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def main() -> None:
    """Wait for the end of the parent, then end what it left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    sys.stdin.buffer.read()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and (left := marked(sys.argv[1])):
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
