"""Signals as a request to stop that the host loop polls, so that a run ends with a checkpoint."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class StopSignals:
    """Catches SIGTERM, SIGINT and SIGHUP between `__enter__` and `__exit__`; then the old handlers are back.

        with StopSignals() as stop:
            while not stop:            # true once a signal came
                one_dispatch()
        sys.exit(stop.exit_code)       # 143, 130, 129, or 0

    Python runs a handler only between bytecodes, never inside a long compilation. So a thread reads
    signal numbers from a pipe that the C handler fills at once: it tells the user, and at the second
    SIGINT ends the process there and then (exit code 130), also while XLA compiles or runs. Where nothing is
    to be saved, `at_once` makes the first signal do so. Outside the main thread, where Python allows no
    handlers, it catches nothing and `stop` stays false. A SIGHUP that the process was told to ignore (nohup)
    stays ignored.
    """

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self._leave: tuple[str, Callable[[], None]] | None = None  # the last words, and what to do, at a signal
        self._lock = threading.Lock()
        self._old: dict[signal.Signals, Any] = {}
        self._thread: threading.Thread | None = None

    def __bool__(self) -> bool:
        return self.caught is not None

    @property
    def exit_code(self) -> int:
        """The code to exit with: 143 after SIGTERM, 130 after SIGINT, 129 after SIGHUP, 0 when none came."""
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
        ignored = [n for n in EXIT_CODES if n == signal.SIGHUP and signal.getsignal(n) == signal.SIG_IGN]
        self._old = {n: signal.signal(n, self._handle) for n in EXIT_CODES if n not in ignored}
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
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

    @contextlib.contextmanager
    def at_once(self, words: str, leave: Callable[[], None] = lambda: None) -> Iterator[None]:
        """In the block, the first signal ends the process: `leave()`, the words on stderr, the signal's exit code.

        For stretches that have nothing to save, or have saved it all. One that came before ends it on entry.
        """
        if self._thread is None:
            yield
            return
        with self._lock:
            self._leave = (words, leave)
            if self.caught is not None:
                self._end(self.caught)
        try:
            yield
        finally:
            with self._lock:
                self._leave = None

    def _end(self, number: int) -> None:
        """End the process now: no handlers, no threads to wait for."""
        if self._leave is not None:
            words, leave = self._leave
            with contextlib.suppress(BaseException):
                leave()
            _say(f"\n{signal.Signals(number).name}: {words}\n")
        if sys.stderr is not None and sys.stderr.isatty():
            _say("\x1b[?25h")  # a progress bar hides the cursor
        os._exit(EXIT_CODES[signal.Signals(number)])

    def _watch(self) -> None:
        """Announce the first signal, or end the process where nothing waits to be saved; and at the second SIGINT."""
        seen: list[int] = []
        while byte := os.read(self._reading, 1):
            if byte[0] not in self._old:
                continue
            seen.append(byte[0])
            with self._lock:
                if self._leave is not None or seen.count(signal.SIGINT) == 2:
                    self._end(byte[0])
            if len(seen) == 1:
                name = signal.Signals(byte[0]).name
                more = "; Ctrl-C again stops at once" if byte[0] == signal.SIGINT else ""
                _say(f"\n{name}: saving after this dispatch{more}\n")


def _say(text: str) -> None:
    """Write to standard error past Python's own buffers, which another thread may hold; nobody need listen."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
