"""What `load` returns: arrays as stored, split in three, with the facts a model and a run's record need."""

import dataclasses
import difflib
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, Shaped

Parts = dict[str, tuple[np.ndarray, np.ndarray | None]]
"""Arrays as a source gives them: part name -> (x, y or None)."""

SPLITS = ("train", "validation", "test")


class DataError(ValueError):
    """A data set cannot be had as asked; the message is one line: what is wrong, the value, what to do."""


class UnknownDataset(DataError):
    """No data set has this name: a mistyped option rather than missing or damaged data."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples of one split: `x` (n, *shape) uint8 or float32, `y` (n,) int32, `factors` (n, k) int32."""

    x: Shaped[np.ndarray, "n ..."]
    y: Int[np.ndarray, "n"] | None = None
    factors: Int[np.ndarray, "n k"] | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    splits: "train", "validation", "test"; how they were made is said in `notes`.
    shape: of one example: (H, W, C) for images, (d,) for tables.
    range: lowest and highest possible raw value; `(x - low) / (high - low)` is in [0, 1].
    labels: number of classes, or None without labels.
    sha256: file (or array) name -> hex digest of what was read.
    binarisation: "published" when the stored values are already 0 and 1, else "none".
    factor_names: the columns of `Split.factors` (generated sets only).
    """

    name: str
    source: str
    splits: dict[str, Split]
    shape: tuple[int, ...]
    range: tuple[float | int, float | int]
    labels: int | None
    sha256: dict[str, str]
    binarisation: Literal["none", "published"] = "none"
    notes: str = ""
    factor_names: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return the JSON-ready facts that belong in a run's record."""
        return {
            "name": self.name,
            "source": self.source,
            "splits": {k: len(s) for k, s in self.splits.items()},
            "split_rule": self.notes,
            "shape": list(self.shape),
            "range": list(self.range),
            "labels": self.labels,
            "binarisation": self.binarisation,
            "sha256": dict(self.sha256),
        }


def digest(data: bytes | np.ndarray) -> str:
    """Return the SHA-256, in hex, of bytes or of an array's values in C order."""
    content = data if isinstance(data, bytes) else np.ascontiguousarray(data).data
    return hashlib.sha256(content).hexdigest()


def nearest(name: str, known: Iterable[str], n: int = 3) -> str:
    """Return the `n` known names most like `name`, best first, as one comma-separated text."""
    return ", ".join(difflib.get_close_matches(name, sorted(known), n=n, cutoff=0.0))


def check_finite(x: np.ndarray, where: str) -> None:
    """Raise DataError when a float array holds NaN or an infinity, naming how many and the first."""
    if x.dtype.kind != "f" or np.isfinite(x).all():
        return
    bad = ~np.isfinite(x)
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    raise DataError(
        f"{where}: {int(bad.sum())} of {x.size} values are not finite, the first is {x[first]} at index "
        f"{first}; remove or fill them"
    )


def array_digests(splits: Mapping[str, Split]) -> dict[str, str]:
    """Return SHA-256 of every array of every split, for sources that have no file checksum of their own."""
    out = {}
    for key, split in splits.items():
        out[f"{key}.x"] = digest(split.x)
        if split.y is not None:
            out[f"{key}.y"] = digest(split.y)
    return out
