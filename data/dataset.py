"""What `load` returns: arrays as stored, split in three, with the facts a model and a run's record need."""

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, Shaped

from data.errors import DataError, counted
from data.scale import Scale

Parts = dict[str, tuple[np.ndarray, np.ndarray | None]]
"""Arrays as a source gives them: part name -> (x, y or None)."""

RAW = Scale()
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples of one split: `x` (n, *shape) raw values, `y` (n,) int32, `factors` (n, k) int32."""

    x: Shaped[np.ndarray, "n ..."]
    y: Int[np.ndarray, "n"] | None = None
    factors: Int[np.ndarray, "n k"] | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    splits: "train", "validation", "test", nan where a table's value is missing; how they were made is said in `notes`.
    shape: of one example: (H, W, C) for images, (d,) for tables.
    range: lowest and highest possible raw value; `(x - low) / (high - low)` is in [0, 1].
    labels: number of classes, or None without labels.
    sha256: file (or array) name -> hex digest of what was read.
    binarisation: "published" when the stored values are bits already: 0 and 1, or 0 and 255 (or 65535); else "none".
    factor_names: the columns of `Split.factors` (generated sets only).
    scale: from raw values to those a model sees, fitted on the training split.
    columns: names of a table's columns. classes: names of the classes where they have any.
    reading: what a later reading of the same kind of file needs: see `data.read`.
    remarks: what was found, left out or changed on reading, for the line before training and the record.
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
    scale: Scale = RAW
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    reading: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()

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
            "classes": list(self.classes) or self.labels,
            "columns": list(self.columns) or None,
            "dtype": str(next(iter(self.splits.values())).x.dtype),
            "scale": self.scale.to_json(),
            "constant": self.constant,
            "reading": dict(self.reading),
            "remarks": list(self.remarks),
            "binarisation": self.binarisation,
            "sha256": dict(self.sha256),
        }

    @property
    def constant(self) -> list[str]:
        """Names (else numbers from 1) of the columns that the scale keeps at 0: they held one value in training."""
        if np.ndim(self.scale.factor) == 0:
            return []
        return [self.columns[i] if self.columns else str(i + 1) for i in np.flatnonzero(self.scale.factor == 0)]

    def display(self, scaled: np.ndarray) -> np.ndarray:
        """Return scaled values as they are drawn: pictures with their possible range at 0 and 1, rows as they are.

        A spectrogram (frames, bands) is a picture, low bands below.
        """
        if self.reading.get("form") == "logmel":
            low, high = self.range
            shown = np.nan_to_num((self.scale.invert(scaled) - low) / max(high - low, 1e-300), nan=0.0)
            return np.swapaxes(shown, -1, -2)[..., ::-1, :, None].astype(np.float32)
        if not self.picture or self.scale.kind in ("none", "unit"):
            return scaled
        low, high = self.range
        return ((self.scale.invert(scaled) - low) / max(high - low, 1e-300)).astype(np.float32)

    @property
    def missing(self) -> bool:
        """Whether values may be missing: they are nan in `Split.x`."""
        return bool(self.reading.get("missing"))

    @property
    def bits(self) -> bool:
        """Whether every scaled value is 0 or 1: the raw ones are the two ends of the range."""
        return self.binarisation == "published"

    @property
    def text(self) -> bool:
        """Whether the values are symbols of a text, see `data.files.kinds.text`."""
        return bool(self.reading.get("text"))

    @property
    def series(self) -> bool:
        """Whether an example is a series: (steps, columns), see `data.files.kinds.series`."""
        return bool(self.reading.get("series"))

    @property
    def audio(self) -> bool:
        """Whether an example is sound: a wave (samples, 1) or a spectrogram, see `data.files.kinds.audio`."""
        return bool(self.reading.get("audio"))

    @property
    def ratings(self) -> bool:
        """Whether an example is what one user chose of all items, see `data.files.kinds.ratings`."""
        return bool(self.reading.get("ratings"))

    @property
    def kind(self) -> str:
        """What the examples are, in the words of `--kind`."""
        if self.audio or self.ratings:
            return "audio" if self.audio else "ratings"
        return "text" if self.text else "series" if self.series else "image" if self.picture else "table"

    @property
    def picture(self) -> bool:
        """Whether an example is a picture: (H, W, C)."""
        return len(self.shape) == 3

    def line(self, train: int | None = None) -> str:
        """Return what was understood, as one line; `train` is the number of training examples that stay on disk."""
        sizes = {key: len(split) for key, split in self.splits.items()}
        if train is not None:
            sizes = {"train": train} | sizes
        what = "x".join(map(str, self.shape)) if self.picture else f"{math.prod(self.shape)}"
        kind = f"pictures of {what}" if self.picture else f"rows of {what} number{'s' * (what != '1')}"
        kind = f"texts of {what} {self.reading['unit']}" if self.text else kind
        if self.series:
            what = "windows" if self.reading["cut"] == "windows" else "series"
            kind = f"{what} of {self.shape[0]} steps x {self.shape[1]}"
        kind = f"recordings as {'x'.join(map(str, self.shape))} numbers" if self.audio else kind
        kind = f"users of {what} items" if self.ratings else kind
        low, high = self.range
        unit = f"values {low:g}..{high:g}"
        if self.bits:
            unit = "bits" if high <= 1 else f"bits, stored as {low:g} and {high:g}"
        each = ", ".join(f"{k} {n:,}" for k, n in sizes.items())
        labels = "no labels" if self.labels is None else counted(self.labels, "class")
        constant = self.constant
        kept = [f"kept at 0 because constant: {names_of(constant)}"] if constant else []
        return "; ".join(
            [
                f"{self.name}: {sum(sizes.values()):,} {kind}, {unit}, scale {self.scale.kind}",
                f"{each} ({self.notes})" if self.notes else each,
                labels,
                *kept,
                *self.remarks,
            ]
        )


def names_of(names: list[str], most: int = 6) -> str:
    """Return names as a list in words, cut after `most`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def digest(data: bytes | np.ndarray) -> str:
    """Return the SHA-256, in hex, of bytes or of an array's values in C order."""
    content = data if isinstance(data, bytes) else np.ascontiguousarray(data).data
    return hashlib.sha256(content).hexdigest()


def check_finite(x: np.ndarray, where: str, missing: bool = False) -> None:
    """Raise DataError when a float array holds NaN (unless values may be missing) or an infinity, naming the first."""
    if x.dtype.kind != "f" or np.isfinite(x).all():
        return
    bad = np.isinf(x) if missing else ~np.isfinite(x)
    if not bad.any():
        return
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    raise DataError(
        f"{where}: {int(bad.sum())} of {counted(x.size, 'value', 'is', 'are')} not finite, the first is {x[first]} at "
        f"index {first}; remove or fill them"
    )


def array_digests(splits: Mapping[str, Split]) -> dict[str, str]:
    """Return SHA-256 of every array of every split, for sources that have no file checksum of their own."""
    out = {}
    for key, split in splits.items():
        out[f"{key}.x"] = digest(split.x)
        if split.y is not None:
            out[f"{key}.y"] = digest(split.y)
    return out
