"""SIGTERM and SIGINT as a request to stop that the host loop polls, so that a run ends with a checkpoint."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class StopSignals:
    """Catches SIGTERM and SIGINT between `__enter__` and `__exit__`; afterwards the old handlers are back.

        with StopSignals() as stop:
            while not stop:            # true once a signal came
                one_dispatch()
        sys.exit(stop.exit_code)       # 143, 130, or 0

    Python runs a handler only between bytecodes, never inside a long compilation. So a thread reads
    signal numbers from a pipe that the C handler fills at once: it tells the user, and at the second
    SIGINT ends the process there and then (exit code 130), also while XLA compiles or runs. Outside the
    main thread, where Python allows no handlers, it catches nothing and `stop` stays false.
    """

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self._old: dict[signal.Signals, Any] = {}
        self._thread: threading.Thread | None = None

    def __bool__(self) -> bool:
        return self.caught is not None

    @property
    def exit_code(self) -> int:
        """The code to exit with: 143 after SIGTERM, 130 after SIGINT, 0 when none came."""
        return 0 if self.caught is None else EXIT_CODES[self.caught]

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.caught is None:
            self.caught = signal.Signals(number)

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is not threading.main_thread():
            return self
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._old_descriptor = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._old = {number: signal.signal(number, self._handle) for number in EXIT_CODES}
        self._thread = threading.Thread(target=_watch, args=(self._reading,), name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._thread is None:
            return
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_descriptor)
        os.close(self._writing)  # ends the thread: it reads the end of the pipe
        self._thread.join()
        os.close(self._reading)
        self._thread = None


def _watch(reading: int) -> None:
    """Announce the first signal; end the process at the second SIGINT."""
    seen: list[int] = []
    while byte := os.read(reading, 1):
        if byte[0] not in EXIT_CODES:
            continue
        seen.append(byte[0])
        if seen.count(signal.SIGINT) == 2:
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # a progress bar hides the cursor
            os._exit(EXIT_CODES[signal.SIGINT])
        if len(seen) == 1:
            name = signal.Signals(byte[0]).name
            more = "; Ctrl-C again stops at once" if byte[0] == signal.SIGINT else ""
            os.write(2, f"\n{name}: saving after this dispatch{more}\n".encode())
