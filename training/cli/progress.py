"""What a run says while it works: a bar on a terminal, plain lines elsewhere, and a table at the end."""

import atexit
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from training.pictures.names import words


class Output:
    """A text stream whose loss is no reason to stop: after the first failed write (a closed pipe, a full device, a
    terminal that hung up) it stays silent. Without any stream (None) it is silent from the start.
    """

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or do nothing."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Flush, or do nothing."""
        self._try("flush")

    def isatty(self) -> bool:
        """Whether somebody watches a terminal."""
        return self._stream is not None and self._stream.isatty()

    def _try(self, name: str, *arguments: Any) -> None:
        if self._stream is None:
            return
        try:
            getattr(self._stream, name)(*arguments)
        except (OSError, ValueError):  # ValueError: the stream was closed
            self._stream, lost = None, self._stream
            with contextlib.suppress(OSError, ValueError):  # what its buffer holds would fail again at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), lost.fileno())

    def __getattr__(self, name: str) -> Any:
        if self._stream is None:
            raise AttributeError(f"there is no output any more to ask for {name}")
        return getattr(self._stream, name)


def keep_going_without_output() -> None:
    """Let the process work on when nobody can read what it prints. Called once, by the process's own command."""
    for descriptor in (0, 1, 2):  # one that is closed would be given to the next file that is opened
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = Output(sys.stdout), Output(sys.stderr)  # type: ignore[assignment]
    atexit.register(sys.stdout.flush)


class Progress:
    """Shows epoch, step, loss, images per second and the time left.

        with Progress(steps=1000, steps_per_epoch=100, batch_size=128) as progress:
            progress.update(step, loss)

    `start` is the step a resumed run begins at. Without a terminal a plain line is printed once per
    `seconds` at most, and at the end. The rate is that of the last 20 updates: the first, which compiles,
    is left out of it.
    """

    def __init__(
        self,
        steps: int,
        steps_per_epoch: int,
        batch_size: int,
        start: int = 0,
        unit: str = "images",
        seconds: float = 5.0,
        out: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.steps, self.steps_per_epoch, self.batch_size = steps, max(1, steps_per_epoch), batch_size
        self.step, self.unit, self.seconds = start, unit, seconds
        self.out = sys.stdout if out is None else out
        self._recent: deque[tuple[float, int]] = deque(maxlen=20)
        self._now = clock
        self._said = clock()
        self._line = ""
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        if self.out.isatty():
            self._bar, self._task = live_bar(self.out, self.steps, self.step)
            self._bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self._line:
            self._say(self._line)

    @property
    def rate(self) -> float | None:
        """Examples per second over the last updates; None before there are two."""
        if len(self._recent) < 2 or self._recent[-1][0] <= self._recent[0][0]:
            return None
        (begin, first), (end, last) = self._recent[0], self._recent[-1]
        return (last - first) * self.batch_size / (end - begin)

    def update(self, step: int, loss: float | None = None) -> None:
        """Show that `step` steps are done; `loss` is that of the last of them."""
        now = self._now()
        self.step = step
        self._recent.append((now, step))
        epoch = min(-(-step // self.steps_per_epoch), self.steps // self.steps_per_epoch or 1)
        head = f"epoch {epoch}/{max(1, self.steps // self.steps_per_epoch)}  step {step}/{self.steps}"
        rate = self.rate
        text = ("" if loss is None else f"loss {loss:.4g}") + ("" if rate is None else f"  {rate:,.0f} {self.unit}/s")
        left = "" if not rate else f"  {clock((self.steps - step) * self.batch_size / rate)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=head, text=text + left)
            return
        self._line = f"{head}  {text}{left}"
        if now - self._said >= self.seconds:
            self._say(self._line)

    def message(self, text: str) -> None:
        """Print a line that stays, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.out, flush=True)

    def _say(self, line: str) -> None:
        self._said, self._line = self._now(), ""
        print(line, file=self.out, flush=True)


def live_bar(out: Any, total: int, done: int, first: str = "compiling") -> tuple[Any, Any]:
    """Return a bar on the terminal `out` and its task: `bar.update(task, completed=, description=, text=)`."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    text = lambda field: TextColumn(field, markup=False)
    columns = (text("{task.description}"), BarColumn(bar_width=24), text("{task.fields[text]}"))
    bar = Bar(*columns, console=Console(file=out), refresh_per_second=5)
    return bar, bar.add_task(first, total=total, completed=done, text="")


def clock(seconds: float) -> str:
    """Return a duration as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def result_table(title: str, values: Mapping[str, float | int | str], out: Any = None) -> None:
    """Print metrics as a table: name in words, value, unit; drawn with lines on a terminal."""
    out = sys.stdout if out is None else out
    rows = [(*words(name), value if isinstance(value, str) else _number(value)) for name, value in values.items()]
    if out.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(title=title, title_justify="left")
        table.add_column("metric")
        table.add_column("value", justify="right")
        table.add_column("unit")
        for name, unit, number in rows:
            table.add_row(name, number, unit)
        Console(file=out).print(table)
        return
    wide = max((len(row[0]) for row in rows), default=0)
    digits = max((len(row[2]) for row in rows), default=0)
    lines = [f"  {name:<{wide}}  {number:>{digits}}  {unit}".rstrip() for name, unit, number in rows]
    print("\n".join([title, *lines]), file=out, flush=True)


def _number(value: float | int) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"
