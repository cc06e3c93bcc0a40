"""Sets larger than memory: validation and test in memory, training examples on disk, read when asked for."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import Dataset, check_finite
from data.errors import DataError, shown
from data.files.kinds.series import CUTS
from data.files.memmap import large, load_rows
from data.files.read import located
from data.load import check_options, folder_of, load, scaled
from data.options import Options
from data.scale import BLOCK, blocks
from data.sets import sources
from data.splits import three_way
from data.tfds import builders, prepared


@dataclasses.dataclass(frozen=True)
class OnDisk(Sequence[Any]):
    """OnDisk start..stop of a TFDS source as {"x": ..., "y": ...}; read one at a time, when asked for."""

    source: Any
    x: str
    y: str | None
    dtype: np.dtype
    start: int
    stop: int
    where: str

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: Any) -> Any:
        example = self.source[self.start + int(index)]
        x = builders.stored(np.asarray(example[self.x])[None], self.dtype, self.where)
        check_finite(x, f"{self.where}, example {index}")
        return {"x": x[0]} if self.y is None else {"x": x[0], "y": np.int32(example[self.y])}

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the values in stored order, a block at a time."""
        for start in range(0, len(self), BLOCK):
            yield np.stack([self[i]["x"] for i in range(start, min(start + BLOCK, len(self)))])


@dataclasses.dataclass(frozen=True)
class Arrays(Sequence[Any]):
    """A split in memory, seen as a source of examples."""

    x: np.ndarray
    y: np.ndarray | None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Any:
        return {"x": self.x[index]} if self.y is None else {"x": self.x[index], "y": self.y[index]}

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the values in stored order, a block at a time."""
        return blocks(self.x)


def too_large(name: str) -> bool:
    """Whether a set is one large file that is better left on disk: an npy above a tenth of memory."""
    if not name.startswith("file:"):
        return False
    path, words = located(name[5:])
    return large(path) and not any(word in CUTS for word in words.split("/"))


def load_disk(
    name: str, data_dir: str | Path | None = None, options: Options | None = None, connect_seconds: float = 1.5
) -> tuple[Dataset, Sequence[Any]]:
    """Return a set without its training split, and its training examples as a source {"x", "y"} by position.

    Splits, stored values and scale are those of `load` where both can read the set. TFDS sets and large npy files stay
    on disk; other sets are held in memory. Raises DataError as `load` does.
    """
    options, root = options or Options(), folder_of(data_dir)
    if name.startswith("tfds:"):
        check_options(name, options)
        return _tfds(name, root, options, connect_seconds)
    if too_large(name):
        _check(name, options)
        dataset, train, found = load_rows(located(name[5:])[0], options)
        return scaled(dataset, options, lambda: found), train
    dataset = load(name, data_dir, options=options, connect_seconds=connect_seconds)
    train_split = dataset.splits["train"]
    rest = {k: s for k, s in dataset.splits.items() if k != "train"}
    return dataclasses.replace(dataset, splits=rest), Arrays(train_split.x, train_split.y)


def _check(name: str, options: Options) -> None:
    for field in ("ignore", "resize", "channels"):
        if getattr(options, field):
            raise DataError(f"--{field} does not apply to an array read from disk ({shown(name)})")


def _tfds(name: str, root: Path | None, options: Options, seconds: float) -> tuple[Dataset, OnDisk]:
    from data.scale import measure

    dataset = builders.load_tfds(name[5:], root, sources.cache_folder(), seconds, train=False)
    plain, _, wanted = name[5:].partition("#")
    builder, _ = builders.builder_of(plain, root, sources.cache_folder(), seconds)
    x, y = builders.keys(builder, wanted)
    stored = {part: prepared.records(builder, part) for part in prepared.parts(builder)}
    cuts, _ = three_way({part: len(s) for part, s in stored.items()}, name)
    part, start, stop = cuts["train"]
    train = OnDisk(stored[part], x, y, builders.dtype_of(builder, x), start, stop, name)
    look = functools.cache(lambda: measure(train.blocks()))
    if dataset.bits:
        bounds, kind = builders.with_train(look().range[1], look().top, dataset.range, name)
        dataset = dataclasses.replace(dataset, range=bounds, binarisation=kind)
    return scaled(dataset, options, look), train
