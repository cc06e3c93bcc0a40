"""What goes wrong with data, as one line for the user."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class DataError(ValueError):
    """A data set cannot be had as asked; the message is one printable line: what is wrong, the value, what to do."""

    def __init__(self, message: str):
        super().__init__(shown(message, 4000))


class UnknownDataset(DataError):
    """No data set has this name: a mistyped option rather than missing or damaged data."""


def at_home(text: str | Path) -> Path:
    """Return a path with ~ filled in; DataError for the home of somebody unknown."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise DataError(f"{shown(text)}: there is no such home folder; write the path out") from None


def nearest(name: str, known: Iterable[str], n: int = 3) -> str:
    """Return the `n` known names most like `name`, best first, as one comma-separated text."""
    return ", ".join(difflib.get_close_matches(name, sorted(known), n=n, cutoff=0.0))


def counted(n: int, noun: str, one: str = "", more: str = "") -> str:
    """Return a number with its noun, and the verb for one or more: "1 class", "2,000 examples", "1 value is"."""
    plural = f"{noun}{'es' if noun.endswith('s') else 's'}"
    return f"{n:,} {noun} {one}".rstrip() if n == 1 else f"{n:,} {plural} {more}".rstrip()


def shown(text: object, most: int = 60) -> str:
    """Return a value of the user's as printable text on one line, cut to `most` characters.

    Bytes of a path that are no UTF-8 (surrogates in Python) are written as escapes.
    """
    plain = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in plain)
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."
