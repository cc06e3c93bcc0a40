"""What one field of a sweep may be: a range of numbers or a list of values."""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from models.config import ConfigError

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER}):({NUMBER})((?::\w+)*)")


MOST_POINTS = 100_000  # of a sweep: the names of its trials sort as their numbers do


class SpaceError(ConfigError):
    """A sweep's space or options are impossible; the message is one line that names the cause."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included, uniform or uniform in the logarithm.

    `points` is how many values a grid takes from it (None: a grid must refuse a float range).
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    points: int | None = None

    def __post_init__(self) -> None:
        text = f"{self.low:g}:{self.high:g}"
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise SpaceError(f"range {text} must have finite ends")
        if self.low == self.high:
            raise SpaceError(f"range {text} is empty; write one value to fix the field")
        if self.low > self.high:
            raise SpaceError(f"range {text} is inverted; write {self.high:g}:{self.low:g}")
        if self.log and self.low <= 0:
            raise SpaceError(f"range {text}:log needs a low end above 0: the logarithm of {self.low:g} does not exist")
        if self.points is not None and self.points < 2:
            raise SpaceError(f"range {text} needs at least 2 grid points, got {self.points}")

    def at(self, u: float) -> float | int:
        """Return the value at quantile u in [0, 1). Floats keep 6 digits, so the table shows what was run."""
        half = 0.5 if self.integer else 0.0
        low, high = self.low - half, self.high + half
        x = math.exp(math.log(low) + u * (math.log(high) - math.log(low))) if self.log else low + u * (high - low)
        x = round(x) if self.integer else float(f"{x:.6g}")
        x = min(max(x, self.low), self.high)
        return int(x) if self.integer else float(x)

    def grid_size(self) -> int:
        """Return how many values a grid visits, at most."""
        return self.points or (int(self.high) - int(self.low) + 1 if self.integer and not self.log else 1)

    def grid(self) -> list[float | int]:
        """Return the values a grid visits. Raises SpaceError for a float range without a number of points."""
        if self.points is None and self.integer and not self.log:
            return list(range(int(self.low), int(self.high) + 1))
        if self.points is None:
            text = f"{self.low:g}:{self.high:g}{':log' if self.log else ''}"
            raise SpaceError(f"a grid needs the number of points of {text}; write {text}:5")
        closed = dataclasses.replace(self, integer=False)
        values = [closed.at(i / (self.points - 1)) for i in range(self.points)]
        return list(dict.fromkeys(round(v) for v in values)) if self.integer else values


@dataclasses.dataclass(frozen=True)
class Choice:
    """A list of plain values (numbers, words, tuples); a part of a config is given by its kind."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise SpaceError("a list of choices is empty")
        if len({json.dumps(v) for v in self.values}) < len(self.values):
            raise SpaceError(f"a list of choices repeats a value: {', '.join(map(str, self.values))}")

    def at(self, u: float) -> Any:
        """Return the value at quantile u in [0, 1)."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def grid_size(self) -> int:
        """Return how many values there are."""
        return len(self.values)

    def grid(self) -> list[Any]:
        """Return all values in their order."""
        return list(self.values)


Domain = Range | Choice


def parse_range(text: str, numeric: Sequence[type]) -> Range | None:
    """Parse low:high[:log|linear][:points] for a field that takes the `numeric` types; None if it is no range.

    Raises SpaceError when it looks like a range but is not a possible one.
    """
    if ":" not in text or (match := RANGE.fullmatch(text.strip())) is None:
        if ":" in text and numeric:
            raise SpaceError(f"{text!r} is not a range; write low:high, low:high:log or low:high:log:points")
        return None
    if not numeric:
        raise SpaceError(f"{text!r} is a range, but the field is not a number; write a list of values")
    log, points = False, None
    for word in match[3].split(":")[1:]:
        if word in ("log", "linear"):
            log = word == "log"
        elif word.isdigit():
            points = int(word)
        else:
            raise SpaceError(f"{text!r}: {word!r} is neither log, linear nor a number of grid points")
    integer = float not in numeric
    low, high = float(match[1]), float(match[2])
    if integer and not (low.is_integer() and high.is_integer()):
        raise SpaceError(f"range {text} must have whole ends: the field is an int")
    return Range(low, high, log, integer, points)


def split_list(text: str) -> list[str]:
    """Split at the commas that are outside brackets and quotes: `[400,200],[64]` has two items."""
    items, depth, quoted, start = [], 0, False, 0
    for i, c in enumerate(text):
        quoted ^= c == '"'
        depth += (c in "[(") - (c in "])") if not quoted else 0
        if c == "," and depth == 0 and not quoted:
            items.append(text[start:i])
            start = i + 1
    return [item.strip() for item in [*items, text[start:]]]


def parse_word(text: str) -> Any:
    """Return the plain value that a word on the command line means; a word that means nothing else is a string."""
    special = {"true": True, "false": False, "none": None}
    if text.lower() in special:
        return special[text.lower()]
    for read in (json.loads, int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def describe(domain: Domain) -> dict[str, Any]:
    """Return a domain as plain JSON values, for the fingerprint of a sweep and for its page."""
    return {"kind": type(domain).__name__.lower(), **dataclasses.asdict(domain)}
