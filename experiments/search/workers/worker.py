"""A worker process: reads groups of trials as JSON lines, runs them, answers; ends when its parent does.

It imports the standard library only before it watches its parent. It lives for the whole sweep: a program compiled
for one group serves every later group of its structure.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import traceback
from queue import Queue
from typing import IO, Any


def die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent ends; elsewhere the closed pipe does it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _reader(stream: IO[str], inbox: "Queue[dict[str, Any]]") -> None:
    """Pass messages on; the end of the pipe is the end of the parent, whatever the main thread is doing."""
    for line in stream:
        inbox.put(json.loads(line))
    os._exit(0)


def main() -> None:
    """Serve groups until the parent goes away: one answer, an error or an empty one, for each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a trial prints goes to the log, not into the answers
    first = json.loads(sys.stdin.readline() or "{}")
    if not first:
        return
    die_with(first["parent"])
    inbox: Queue[dict[str, Any]] = Queue()
    threading.Thread(target=_reader, args=(sys.stdin, inbox), daemon=True).start()
    try:
        from experiments.search.workers.execute import make_runner

        run = make_runner(first)
    except Exception as error:
        traceback.print_exc()
        print(json.dumps({"error": f"the worker cannot start: {type(error).__name__}: {error}"}), file=answers)
        return
    while True:
        print(json.dumps({"error": run(inbox.get()["trials"])}), file=answers)


if __name__ == "__main__":
    main()
