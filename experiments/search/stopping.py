"""How a sweep ends on a signal: at once, with one line and never a traceback.

What is finished is in the ledger and the workers end with this process, so nothing need be wound up: the handler says
how to go on and leaves. Import this first: it needs the standard library alone.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_plans: list[tuple[str, Callable[[], object]]] = [("stopped before anything was begun", lambda: None)]


def install() -> None:
    """Handle the signals from now on; one that is ignored (nohup) stays so."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


@contextlib.contextmanager
def when_stopped(line: str, action: Callable[[], object]) -> Iterator[None]:
    """Within the block a signal calls `action`, prints `line` and ends the process."""
    _plans.append((line, action))
    try:
        yield
    finally:
        _plans.pop()


def _leave(number: int, frame: Any) -> None:
    for again in SIGNALS:
        signal.signal(again, signal.SIG_DFL)  # a second one does not wait for the action
    line, action = _plans[-1]
    with contextlib.suppress(Exception):
        action()
    with contextlib.suppress(OSError):
        show_cursor = "\x1b[?25h\n" if os.isatty(2) else ""
        os.write(2, f"{show_cursor}{line}\n".encode())
    os._exit(128 + number)
