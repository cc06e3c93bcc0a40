"""From raw values to those a model sees and back: one affine map per column, chosen by what the data are.

    scaled = (raw - shift) * factor

`shift` and `factor` are numbers, or one each for the entries of the last axis (columns of a table, channels of a
picture). Fitted on the training split, in float64, block by block in stored order, so that data in memory and data
from disk give the same numbers.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from data.errors import DataError
from data.options import ScaleKind

BLOCK = 1024  # examples that are looked at together
ENDS = (1.0, 255.0, 65535.0)  # what stands for a set bit: 1, or white where bits are stored as 8 or 16-bit grey
DIFFERENT = 10.0  # columns whose standard deviations differ by more than this factor are on different scales


class Scale(NamedTuple):
    """scaled = (raw - shift) * factor; a factor of 0 keeps a constant column at 0."""

    kind: str = "none"
    shift: Any = 0.0
    factor: Any = 1.0

    def apply(self, raw: Any) -> np.ndarray:
        """Return the values a model sees, float32, of raw values (..., *shape).

        One number for all is applied in float32, as the compiled step does to stored integers; columns in float64.
        """
        raw = np.asarray(raw)
        if np.ndim(self.shift) == 0 and np.ndim(self.factor) == 0:
            return (raw.astype(np.float32) - np.float32(self.shift)) * np.float32(self.factor)
        return ((raw.astype(np.float64) - self.shift) * self.factor).astype(np.float32)

    def invert(self, scaled: Any) -> np.ndarray:
        """Return raw values, float64, of scaled ones; a constant column gets its constant."""
        factor = np.asarray(self.factor, np.float64)
        back = np.divide(1.0, factor, out=np.zeros_like(factor), where=factor != 0)
        return np.asarray(scaled, np.float64) * back + self.shift

    def to_json(self) -> dict[str, Any]:
        """Return {"kind", "shift", "factor"} with plain numbers or lists."""
        plain = lambda v: v.tolist() if isinstance(v, np.ndarray) else float(v)
        return {"kind": self.kind, "shift": plain(self.shift), "factor": plain(self.factor)}

    @classmethod
    def from_json(cls, values: Any) -> "Scale":
        """Return the scale that `to_json` wrote; DataError when it is none."""
        try:
            kind = values["kind"]
            shift, factor = (np.asarray(values[k], np.float64) for k in ("shift", "factor"))
            if not isinstance(kind, str) or not (np.isfinite(shift).all() and np.isfinite(factor).all()):
                raise ValueError("not finite")
        except (TypeError, KeyError, ValueError) as error:
            raise DataError(f"not a saved scale ({error}): {str(values)[:80]}") from None
        number = lambda a: float(a) if a.ndim == 0 else a
        return cls(kind, number(shift), number(factor))


@dataclasses.dataclass(frozen=True)
class Stats:
    """What a pass over examples finds, for every entry of the last axis: (columns,) arrays.

    whole: whether every value is a whole number. size: numbers per entry. top: the one value found beside 0; 0 where
    there is none, NaN where there are more.
    """

    size: int
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    whole: bool
    top: float

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value of all."""
        return float(self.low.min()), float(self.high.max())

    @property
    def constant(self) -> np.ndarray:
        """Which entries hold one value only."""
        return self.low == self.high

    @property
    def eight_bit(self) -> bool:
        """Whether the values are whole numbers within 0..255."""
        low, high = self.range
        return self.whole and low >= 0 and high <= 255

    @property
    def bits(self) -> bool:
        """Whether the values are zeros and ones, or stand for them: zeros and 255, zeros and 65535."""
        return self.top in (0.0, *ENDS)


def blocks(x: Any) -> Iterator[np.ndarray]:
    """Yield the examples of an array in blocks, in stored order."""
    for start in range(0, len(x), BLOCK):
        yield np.asarray(x[start : start + BLOCK])


def only_value(x: np.ndarray, top: float = 0.0) -> float:
    """Return the one value beside 0 in `x` and in what was seen before (`top`): 0 for none, NaN for several."""
    if top != top:
        return top
    most = float(x.max()) or float(x.min())
    one = most if top == 0 else top
    return one if most in (0.0, one) and bool(((x == 0) | (x == one)).all()) else float("nan")


def measure(parts: Iterable[np.ndarray]) -> Stats:
    """Return the statistics of blocks of examples (b, *shape), joined by Chan, Golub & LeVeque's update (1979)."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is told by `fit`
        return _measured(parts)


def _measured(parts: Iterable[np.ndarray]) -> Stats:
    size, whole, top = 0, True, 0.0
    low = high = mean = squares = None
    for block in parts:
        flat = block.reshape(-1, block.shape[-1]).astype(np.float64, copy=False)
        if not len(flat):
            continue
        whole = whole and (block.dtype.kind in "bui" or bool(np.array_equal(flat, np.rint(flat))))
        top = only_value(flat, top)
        n, m = len(flat), flat.mean(0)
        s = np.square(flat - m).sum(0)
        if mean is None or squares is None or low is None or high is None:
            size, low, high, mean, squares = n, flat.min(0), flat.max(0), m, s
            continue
        low, high = np.minimum(low, flat.min(0)), np.maximum(high, flat.max(0))
        gap, total = m - mean, size + n
        squares = squares + s + gap * gap * (size * n / total)
        mean, size = mean + gap * (n / total), total
    if mean is None or squares is None or low is None or high is None:
        raise DataError("there are no examples to measure")
    return Stats(size, low, high, mean, np.sqrt(squares / size), whole, top)


def measure_observed(x: np.ndarray) -> Stats:
    """Return the statistics of what was observed (not nan) of examples in memory; a column without counts as 0."""
    flat = x.reshape(-1, x.shape[-1]).astype(np.float64, copy=False)
    seen = ~np.isnan(flat)
    count, some = seen.sum(0), seen.any(0)
    of = lambda values, least: np.where(some, values.sum(0) / np.maximum(count, 1) if least is None else least, 0.0)
    low = of(flat, np.where(seen, flat, np.inf).min(0))
    high = of(flat, np.where(seen, flat, -np.inf).max(0))
    mean = of(np.where(seen, flat, 0), None)
    std = np.sqrt(of(np.where(seen, np.square(flat - mean), 0), None))
    known = flat[seen]
    return Stats(len(flat), low, high, mean, std, bool(np.array_equal(known, np.rint(known))), only_value(known))


def chosen(kind: ScaleKind, found: Stats, picture: bool) -> str:
    """Return the kind of scale for data with these statistics: the one asked for, or what `auto` means.

    8-bit pictures: unit. Values within [0, 1] on like scales: none. All other values: standardise.
    """
    if kind != "auto":
        return kind
    low, high = found.range
    if picture and found.eight_bit:
        return "none" if found.range[1] <= 1 else "unit"
    if low < 0 or high > 1:
        return "standardise"
    spread = found.std[~found.constant]
    alike = picture or found.bits or not len(spread) or spread.max() <= DIFFERENT * spread.min()
    return "none" if alike else "standardise"


def fit(
    kind: ScaleKind,
    look: Callable[[], Stats],
    shape: tuple[int, ...],
    where: str,
    known: tuple[float, float] | None = None,
) -> Scale:
    """Return the scale of a training split; `look` returns its statistics, `known` is the range its values can have.

    unit: the possible range to [0, 1] (0..255 for 8-bit pictures, 0..65535 for 16-bit ones). standardise: mean 0 and
    standard deviation 1 of every column or channel. minmax: the lowest and highest training value of every column (of
    all pixels together for pictures) to 0 and 1. Raises DataError where the values have no such scale.
    """
    picture = len(shape) == 3
    how: str = "unit" if kind == "auto" and known is not None else kind
    if how == "auto":
        how = chosen("auto", look(), picture)
    if how == "none":
        return Scale()
    if how == "unit":
        low, high = known or _possible(look(), where)
        return Scale("unit", float(low), 1.0 / (high - low)) if (low, high) != (0, 1) else Scale()
    found = look()
    if how == "minmax":
        if picture:
            low, high = found.range
            return Scale("minmax", low, float(_inverse(high - low)))
        return Scale("minmax", found.low, _inverse(found.high - found.low))
    spread = np.where(found.constant, 0.0, found.std)
    if not np.isfinite(spread).all():
        most = max(map(abs, found.range))
        raise DataError(f"{where}: values up to {most:.3g} are too large to be standardised; rescale them")
    return Scale("standardise", found.mean, _inverse(spread))


def _possible(found: Stats, where: str) -> tuple[float, float]:
    low, high = found.range
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if found.whole and low >= 0 and high <= 65535:
        return 0.0, 255.0 if high <= 255 else 65535.0
    raise DataError(
        f"{where}: --scale unit needs values in [0, 1], 8-bit or 16-bit ones, got {low:g}..{high:g}; use --scale minmax"
    )


def _inverse(width: Any) -> Any:
    width = np.asarray(width, np.float64)
    return np.divide(1.0, width, out=np.zeros_like(width), where=width > 0)
