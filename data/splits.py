"""Split rules: each turns the parts a source gives into train, validation and test, and says how in words."""

import dataclasses
from typing import Protocol

import numpy as np

from data.dataset import DataError, Parts, Split


class Rule(Protocol):
    """A split rule; `words` is what goes into the run's record."""

    @property
    def words(self) -> str:
        """The rule in words."""
        ...

    def __call__(self, parts: Parts) -> dict[str, Split]:
        """Return the three splits."""
        ...


def _part(x: np.ndarray, y: np.ndarray | None, take: slice | np.ndarray) -> Split:
    labels = None if y is None else np.ascontiguousarray(y[take].astype(np.int32))
    return Split(np.ascontiguousarray(x[take]), labels)


@dataclasses.dataclass(frozen=True)
class TailOfTrain:
    """Parts "train" and "test": the last `count` training examples become the validation split."""

    count: int

    @property
    def words(self) -> str:
        """The rule in words."""
        return (
            f"validation is the last {self.count:,} of the training examples; test is the original test part"
        )

    def __call__(self, parts: Parts) -> dict[str, Split]:
        """Return the three splits."""
        x, y = parts["train"]
        cut = len(x) - self.count
        return {
            "train": _part(x, y, slice(0, cut)),
            "validation": _part(x, y, slice(cut, None)),
            "test": _part(*parts["test"], slice(None)),
        }


@dataclasses.dataclass(frozen=True)
class AsGiven:
    """Parts that are the three splits already."""

    words: str = "train, validation and test as published"

    def __call__(self, parts: Parts) -> dict[str, Split]:
        """Return the three splits."""
        return {key: _part(*parts[key], slice(None)) for key in ("train", "validation", "test")}


@dataclasses.dataclass(frozen=True)
class Blocks:
    """One part "all": the last `test` examples are the test split, the `validation` before them validation."""

    validation: int
    test: int

    @property
    def words(self) -> str:
        """The rule in words."""
        return (
            f"in stored order: the last {self.test:,} are test, the {self.validation:,} before them validation, "
            "the rest train (blocks, so that neighbours in time stay in one split)"
        )

    def __call__(self, parts: Parts) -> dict[str, Split]:
        """Return the three splits."""
        x, y = parts["all"]
        a, b = len(x) - self.validation - self.test, len(x) - self.test
        cuts = {"train": slice(0, a), "validation": slice(a, b), "test": slice(b, None)}
        return {key: _part(x, y, cut) for key, cut in cuts.items()}


@dataclasses.dataclass(frozen=True)
class Interleaved:
    """One part "all": of every `period` consecutive examples the last is test, the one before validation."""

    period: int

    @property
    def words(self) -> str:
        """The rule in words."""
        p = self.period
        return (
            f"by position i: test where i mod {p} = {p - 1}, validation where i mod {p} = {p - 2}, else train"
        )

    def __call__(self, parts: Parts) -> dict[str, Split]:
        """Return the three splits; DataError when there are fewer examples than the period."""
        x, y = parts["all"]
        if len(x) < self.period:
            raise DataError(
                f"{len(x)} examples are too few to split in three: at least {self.period} are needed"
            )
        return {key: _part(x, y, take) for key, take in self.indices(len(x)).items()}

    def indices(self, n: int) -> dict[str, np.ndarray]:
        """Return the positions of each split among `n` examples."""
        phase = np.arange(n) % self.period
        return {
            "train": np.flatnonzero(phase < self.period - 2),
            "validation": np.flatnonzero(phase == self.period - 2),
            "test": np.flatnonzero(phase == self.period - 1),
        }
