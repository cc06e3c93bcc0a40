"""Batches from disk for sets larger than memory: shuffled, endless or for some epochs, resumable exactly."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.disk import Arrays, load_disk
from data.errors import DataError, nearest
from data.scale import Scale

Batch = dict[str, np.ndarray]


class Stream:
    """An iterator over batches {"x": (batch, *shape), "y": (batch,) when labelled}.

    examples: how many the split has. shape: of one example. labels: number of classes or None.
    `get_state` returns a JSON-ready dict; a stream made with the same arguments continues with exactly the
    remaining batches after `set_state`.
    """

    def __init__(
        self,
        source: Sequence[Any],
        labels: int | None,
        about: dict[str, Any],
        threads: int = 2,
        scale: Scale | None = None,
    ):
        """Build the pipeline; `stream` is the way to make one. With a scale, x is given as a model sees it."""
        import grain

        self._scale = scale
        self.examples, self.labels, self._about = len(source), labels, about
        self.shape = tuple(source[0]["x"].shape)
        pipeline = grain.MapDataset.source(source).seed(about["seed"])
        if about["shuffle"]:
            pipeline = pipeline.shuffle()
        # an epoch is a whole permutation: batches are cut after repeating, so none is short but the very last
        pipeline = pipeline.repeat(about["epochs"]).batch(about["batch_size"], drop_remainder=about["epochs"] is None)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * threads)
        self._batches: Any = iter(pipeline.to_iter_dataset(options))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = next(self._batches)
        return batch if self._scale is None else batch | {"x": self._scale.apply(batch["x"])}

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
                raise DataError(f"the state is of another stream: {key} is {other.get(key)!r}, here {value!r}")
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
        raise DataError(f"unknown split {split!r}; nearest: {nearest(split, ('train', 'validation', 'test'), 1)}")
    dataset, train = load_disk(name, data_dir, connect_seconds=connect_seconds)
    held = train if split == "train" else Arrays(dataset.splits[split].x, dataset.splits[split].y)
    return Stream(
        held, dataset.labels, about_stream(name, split, len(held), batch_size, seed, epochs, shuffle), threads
    )


def about_stream(
    name: str, split: str, examples: int, batch_size: int, seed: int, epochs: int | None = None, shuffle: bool = True
) -> dict[str, Any]:
    """Return what a stream is made from, JSON-ready: its state fits no other."""
    return {
        "name": name,
        "split": split,
        "examples": examples,
        "batch_size": batch_size,
        "seed": seed,
        "epochs": epochs,
        "shuffle": shuffle,
    }
