"""Batches from disk for sets larger than memory: shuffled, endless or for some epochs, resumable exactly."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import DataError, nearest
from data.load import load
from data.sets import sources
from data.splits import three_way
from data.stored import as_stored
from data.tfds import builders, prepared

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Examples(Sequence[Any]):
    """Examples start..stop of a source as {"x": ..., "y": ...}; read one at a time, when asked for."""

    source: Any
    x: str
    y: str | None
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: Any) -> Any:
        example = self.source[self.start + int(index)]
        out = {"x": as_stored(np.asarray(example[self.x])[None], f"example {index}")[0]}
        return out if self.y is None else out | {"y": np.int32(example[self.y])}


@dataclasses.dataclass(frozen=True)
class _Arrays(Sequence[Any]):
    """A split in memory, seen as a source of examples."""

    x: np.ndarray
    y: np.ndarray | None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Any:
        return {"x": self.x[index]} if self.y is None else {"x": self.x[index], "y": self.y[index]}


class Stream:
    """An iterator over batches {"x": (batch, *shape), "y": (batch,) when labelled}.

    examples: how many the split has. shape: of one example. labels: number of classes or None.
    `get_state` returns a JSON-ready dict; a stream made with the same arguments continues with exactly the
    remaining batches after `set_state`.
    """

    def __init__(self, source: Sequence[Any], labels: int | None, about: dict[str, Any], threads: int):
        """Build the pipeline; `stream` is the way to make one."""
        import grain

        self.examples, self.labels, self._about = len(source), labels, about
        self.shape = tuple(source[0]["x"].shape)
        pipeline = grain.MapDataset.source(source).seed(about["seed"])
        if about["shuffle"]:
            pipeline = pipeline.shuffle()
        # an epoch is a whole permutation: batches are cut after repeating, so none is short but the very last
        pipeline = pipeline.repeat(about["epochs"]).batch(
            about["batch_size"], drop_remainder=about["epochs"] is None
        )
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * threads)
        self._batches: Any = iter(pipeline.to_iter_dataset(options))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._batches)

    def get_state(self) -> dict[str, Any]:
        """Return the position as a JSON-ready dict, with what the stream was made from."""
        return {"position": self._batches.get_state(), "stream": self._about}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue at a saved position; DataError when it is of a different stream, naming what differs."""
        other = state.get("stream")
        if not isinstance(other, dict) or "position" not in state:
            raise DataError(f"not a state of a data stream: {state!r}")
        for key, value in self._about.items():
            if other.get(key) != value:
                raise DataError(
                    f"the state is of another stream: {key} is {other.get(key)!r}, here {value!r}"
                )
        self._batches.set_state(state["position"])


def stream(
    name: str,
    split: str = "train",
    *,
    batch_size: int,
    seed: int = 0,
    data_dir: str | Path | None = None,
    epochs: int | None = None,
    shuffle: bool = True,
    threads: int = 2,
    connect_seconds: float = 1.5,
) -> Stream:
    """Return batches of one split, read from disk as they are needed when `name` is "tfds:<builder>".

    batch_size: examples a batch. seed: of the shuffling, which differs from epoch to epoch. epochs: how many
    passes, None for endless. threads: readers. Other names of `load` work too, from memory. The split rule is
    `load`'s. Raises DataError as `load` does, and for a batch size below 1 or an unknown split.
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, got {batch_size}")
    if split not in ("train", "validation", "test"):
        raise DataError(
            f"unknown split {split!r}; nearest: {nearest(split, ('train', 'validation', 'test'), 1)}"
        )
    if name.startswith("tfds:"):
        root = None if data_dir is None else Path(data_dir).expanduser()
        source, labels = _from_tfds(name[5:], split, root, connect_seconds)
    else:
        loaded = load(name, data_dir, connect_seconds=connect_seconds)
        source, labels = _Arrays(loaded.splits[split].x, loaded.splits[split].y), loaded.labels
    about = {
        "name": name,
        "split": split,
        "examples": len(source),
        "batch_size": batch_size,
        "seed": seed,
        "epochs": epochs,
        "shuffle": shuffle,
    }
    return Stream(source, labels, about, threads)


def _from_tfds(name: str, split: str, root: Path | None, seconds: float) -> tuple[Sequence[Any], int | None]:
    builder, _ = builders.builder_of(name, root, sources.cache_folder(), seconds)
    x, y = builders.keys(builder)
    stored = {part: prepared.records(builder, part) for part in prepared.parts(builder)}
    cuts, _ = three_way({part: len(s) for part, s in stored.items()}, f"tfds:{name}")
    part, start, stop = cuts[split]
    labels = None if y is None else int(builder.info.features[y].num_classes)
    return _Examples(stored[part], x, y, start, stop), labels
