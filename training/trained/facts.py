"""What a run recorded of its data: all that stands between raw values and a trained model."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from data import DataError, Scale
from data.files.kinds import audio, text
from training.examples import Examples
from training.store import schema
from training.store.errors import RunError
from training.trained import exported


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a run recorded of its data.

    name; shape of one example; examples (in the training split); low, high: lowest and highest raw value;
    whole: raw values are whole numbers (levels); scale: raw values to what the model sees; columns: their names, for
    a table; record: all of it.
    """

    name: str
    shape: tuple[int, ...]
    examples: int
    low: float
    high: float
    whole: bool
    scale: Scale
    columns: tuple[str, ...]
    classes: int
    record: dict[str, Any]

    @classmethod
    def of(cls, folder: Path) -> "Facts":
        """Read them from a run folder, or an exported one. Raises RunError for one without them."""
        if exported.is_exported(folder):
            path, record = folder / exported.DATA, schema.read_json(folder / exported.DATA, {str: object})
        else:
            path = folder / "env.json"
            record = schema.read_json(path, schema.ENVIRONMENT)["data"]
        try:
            low, high = map(float, record["range"])
            return cls(
                record["name"],
                tuple(map(int, record["shape"])),
                int(record["splits"]["train"]),
                low,
                high,
                np.dtype(record["dtype"]).kind in "uib",
                Scale.from_json(record["scale"]),
                tuple(record["columns"] or ()),
                int(record["labels"] or 0),
                record,
            )
        except (KeyError, TypeError, ValueError, DataError) as error:
            raise RunError(
                f"{path} does not say what the run's data were ({type(error).__name__}: {error}): it was changed, or "
                "is of an older version; train again"
            ) from None

    def values(self, x: Any) -> Any:
        """Return raw values; of a run on text, a text or several of them as the numbers of its vocabulary."""
        reading = self.record.get("reading") or {}
        texts = [x] if isinstance(x, str) else x if isinstance(x, (list, tuple)) else None
        if not reading.get("text") or not texts or not all(isinstance(t, str) for t in texts):
            return x
        numbers = text.from_strings(texts, reading)
        return numbers[0] if isinstance(x, str) else numbers

    def strings(self, x: Any) -> list[str] | None:
        """Return examples (n, *shape) as texts; None for a run that was not on text."""
        reading = self.record.get("reading") or {}
        return text.to_strings(x, reading) if reading.get("text") else None

    @property
    def ratings(self) -> bool:
        """Whether an example is what one user chose of all items, whose ids are the columns."""
        return bool((self.record.get("reading") or {}).get("ratings"))

    @property
    def rate(self) -> int:
        """Samples a second of a run on sound; 0 of any other."""
        reading = self.record.get("reading") or {}
        return int(reading["rate"]) if reading.get("audio") else 0

    def waves(self, x: Any) -> np.ndarray:
        """Return examples (n, *shape) of a run on sound as waves (n, samples) within -1..1; see `rate`."""
        return audio.waves_of(x, self.record["reading"])

    def drawn(self, x: Any) -> np.ndarray:
        """Return raw examples as they are drawn: pictures within 0..1 (a spectrogram is one), series as they are."""
        shown = (np.asarray(x, np.float64) - self.low) / ((self.high - self.low) or 1.0)
        if (self.record.get("reading") or {}).get("form") == "logmel":
            return np.swapaxes(np.nan_to_num(shown, nan=0.0), -1, -2)[..., ::-1, :, None]
        return shown if self.picture else np.asarray(x)

    @property
    def bits(self) -> bool:
        """Whether raw values are two alone: `low` and `high`, which stand for 0 and 1."""
        return bool(self.record.get("binarisation") == "published")

    @property
    def picture(self) -> bool:
        """Whether an example is a picture."""
        return len(self.shape) == 3

    def examples_like(self) -> Examples:
        """Return stand-ins for the training examples, with their number, shape and classes."""
        label = np.zeros(1, np.int32) if self.classes else None
        return Examples(np.zeros((1, *self.shape), np.float32), label=label, classes=self.classes)
