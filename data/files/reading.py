"""What a reader of the user's files returns: raw arrays, not yet split, with names and remarks."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from data.dataset import names_of
from data.errors import DataError, counted, shown


class Part(NamedTuple):
    """Examples of one given split, or of all: raw values, labels as read, names of the examples."""

    x: np.ndarray
    y: np.ndarray | None = None
    names: list[str] | None = None


@dataclasses.dataclass(frozen=True)
class Reading:
    """A file or folder as read.

    parts: {"all": ...}, or the splits that were given. columns: names of a table's columns. classes: names of the
    classes in the order of their numbers, where labels are numbers already. how: what reading another file in the same
    way needs (label, ignored columns, categories, resize, channels). remarks: what was found, left out or changed.
    ordered: whether the examples lie in time order.
    """

    parts: dict[str, Part]
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    how: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    sha256: dict[str, str] = dataclasses.field(default_factory=dict)
    ordered: bool = False

    @property
    def x(self) -> np.ndarray:
        """Raw values of all examples, (n, *shape)."""
        arrays = [part.x for part in self.parts.values()]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    @property
    def labels(self) -> np.ndarray | None:
        """Labels of all examples as read, or None."""
        found = [part.y for part in self.parts.values()]
        return None if any(y is None for y in found) else np.concatenate([y for y in found if y is not None])

    @property
    def names(self) -> list[str] | None:
        """File names or index of all examples, or None."""
        found = [part.names for part in self.parts.values()]
        return None if any(n is None for n in found) else [name for names in found for name in names or ()]


def pooled(parts: Mapping[str, Part], where: str) -> Part:
    """Return the parts as one; DataError where their shapes differ or only some have labels."""
    shapes = {key: part.x.shape[1:] for key, part in parts.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{where}: parts differ in shape: {shapes}")
    whole = Reading(dict(parts))
    return Part(whole.x, whole.labels, whole.names)


def missing_words(
    names: list[str], every: np.ndarray, where: str, first_row: int, allowed: bool, steps: bool = False
) -> str:
    """Return how many values of a table are missing, in words; "" for none. every: which are, (n, columns).

    steps: rows are steps of a series, which may be empty. Raises DataError where values are not allowed to be missing,
    naming the first, and where all values of a row that is an example are.
    """
    if not every.any():
        return ""
    counts = {name: int(n) for name, n in zip(names, every.sum(0), strict=True) if n}
    listed = names_of([f"{name} ({n})" for name, n in counts.items()])
    many, empty = counted(int(every.sum()), "value", "is", "are"), every.all(1)
    if not allowed:
        row = int(np.argmax(every.any(1)))
        raise DataError(
            f"{where}: {many} missing: {listed}; the first is in row {row + first_row}, column "
            f"{shown(names[int(np.argmax(every[row]))])!r}; fill them, or leave columns out: --ignore "
            f"{' '.join(list(counts)[:6])}"
        )
    if empty.any() and not steps:
        more, row = f" ({empty.sum()} rows are so)" if empty.sum() > 1 else "", int(np.argmax(empty)) + first_row
        raise DataError(f"{where}: row {row}: every value is missing{more}; leave such rows out")
    return f"{many} missing: {listed}; left out of every loss"


def missing_in(parts: Mapping[str, Part], where: str) -> str:
    """Return how many values of arrays are missing (nan), in words; "" for none.

    Raises DataError for an example without any value.
    """
    gone, total = 0, 0
    for key, part in parts.items():
        if part.x.dtype.kind != "f" or part.x.ndim < 2 or not part.x.size:
            continue
        every = np.isnan(part.x)
        gone, total = gone + int(every.sum()), total + every.size
        empty = every.reshape(len(every), -1).all(1)
        if empty.any():
            named = where if key == "all" else f"{where}, {key}"
            more = f" ({empty.sum()} are so)" if empty.sum() > 1 else ""
            raise DataError(f"{named}: example {int(np.argmax(empty))}: every value is missing{more}; leave such out")
    many = counted(gone, "value", "is", "are")
    return f"{many} missing (nan), of {total:,}; left out of every loss" if gone else ""
