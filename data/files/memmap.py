"""A large npy file left on disk: rows are read when asked for, so that memory holds a batch and no more."""

import functools
import hashlib
import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import Dataset, Split, check_finite
from data.errors import DataError, counted, shown
from data.files.formats import memory
from data.files.npz import read_header
from data.options import Options
from data.scale import BLOCK, ENDS, Stats, measure, only_value
from data.splits import SEED
from data.stored import check_shape, kept_dtype

HELD_OUT, HELD_BYTES = 10_000, 2**26  # most examples, and about most bytes, of validation and of test
WHOLE = ", from disk (--read memory takes nan as missing values)"
SHARE = 10  # a file above 1/SHARE of memory is left on disk


def large(path: Path) -> bool:
    """Whether a file is an npy array too large to be kept in memory without being asked."""
    try:
        return path.name.lower().endswith(".npy") and path.is_file() and path.stat().st_size > memory() // SHARE
    except (OSError, ValueError):
        return False


class Rows(Sequence[Any]):
    """The rows of an npy file in C order, (n, *shape), read by position; pictures get their channel axis."""

    def __init__(self, path: Path):
        """Check the header against the size of the file."""
        where = shown(path, 200)
        self.path = path
        try:
            with open(path, "rb") as file:
                head = read_header(file, where)
                size = os.fstat(file.fileno()).st_size
            self._file = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
        except OSError as error:
            raise DataError(f"{where}: cannot be read ({error.strerror or error})") from None
        if head.dtype.kind not in "buif":
            raise DataError(f"{where}: values of type {head.dtype} are not numbers; convert them first")
        check_shape(head.shape, where)
        if head.fortran:
            raise DataError(f"{where}: stored column by column; save np.ascontiguousarray(x) to read it from disk")
        if head.start + head.nbytes != size:
            raise DataError(
                f"{where}: damaged or truncated numpy file: {head.start + head.nbytes} bytes needed, {size} there"
            )
        self._start, self._dtype, self._row = head.start, head.dtype, head.nbytes // head.shape[0]
        self._n, self._shape = head.shape[0], head.shape[1:]
        self.shape = (*self._shape, 1) if len(self._shape) == 2 else self._shape
        self.dtype = kept_dtype(head.dtype)

    def __len__(self) -> int:
        return self._n

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return rows start..stop, (stop - start, *shape)."""
        content = os.pread(self._file, (stop - start) * self._row, self._start + start * self._row)
        x = np.frombuffer(content, self._dtype).reshape(-1, *self.shape)
        return x.astype(self.dtype)

    def __getitem__(self, index: Any) -> Any:
        return {"x": self.block(int(index), int(index) + 1)[0]}

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Return the rows at sorted positions as one array."""
        out = np.empty((len(positions), *self.shape), self.dtype)
        for i, at in enumerate(positions):
            out[i] = self.block(int(at), int(at) + 1)[0]
        return out


class Without(Sequence[Any]):
    """The rows that are not held out, in stored order."""

    def __init__(self, rows: Rows, gone: np.ndarray):
        """`gone`: sorted positions that are left out."""
        self.rows, self.gone = rows, gone
        self._before = gone - np.arange(len(gone))  # how many are kept before each of them

    def __len__(self) -> int:
        return len(self.rows) - len(self.gone)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[int(index) + int(np.searchsorted(self._before, int(index), side="right"))]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all rows in stored order, a block at a time."""
        for start in range(0, len(self.rows), BLOCK):
            stop = min(start + BLOCK, len(self.rows))
            x = self.rows.block(start, stop)
            a, b = np.searchsorted(self.gone, (start, stop))
            kept = np.delete(x, self.gone[a:b] - start, axis=0)
            check_finite(kept, f"{self.rows.path}, rows {start} and on{WHOLE}")
            yield kept


def held_out(rows: Rows, kind: str) -> tuple[dict[str, np.ndarray], str]:
    """Return the positions of the validation and test splits, and the rule in words."""
    n = len(rows)
    if n < 10:
        raise DataError(
            f"{rows.path}: {counted(n, 'example', 'is', 'are')} too few to split in three: at least 10 are needed"
        )
    bytes_of_row = int(np.prod(rows.shape)) * rows.dtype.itemsize
    count = max(1, min(n // 10, HELD_OUT, HELD_BYTES // bytes_of_row))
    if kind == "blocks":
        cut = {"validation": np.arange(n - 2 * count, n - count), "test": np.arange(n - count, n)}
        return cut, f"blocks in stored order: test is the last {count:,} rows, validation the {count:,} before"
    both = np.random.default_rng(SEED).choice(n, 2 * count, replace=False)
    cut = {"validation": np.sort(both[:count]), "test": np.sort(both[count:])}
    return cut, f"random, {count:,} rows each for validation and test, seed {SEED}"


def load_rows(path: Path, options: Options) -> tuple[Dataset, Without, Stats]:
    """Return the validation and test splits of a large file, its training rows, and their statistics (one pass)."""
    if options.split == "given":
        raise DataError(f"{path}: --split given needs splits in the file; a single array has none")
    rows = Rows(path)
    cut, words = held_out(rows, options.split)
    splits = {key: Split(rows.take(at)) for key, at in cut.items()}
    for key, split in splits.items():
        check_finite(split.x, f"{path}, {key} split{WHOLE}")
    train = Without(rows, np.sort(np.concatenate(list(cut.values()))))
    found = measure(train.blocks())
    low, high = found.range
    bounds = (
        min(low, *(float(s.x.min()) for s in splits.values())),
        max(high, *(float(s.x.max()) for s in splits.values())),
    )
    top = functools.reduce(lambda seen, split: only_value(split.x, seen), splits.values(), found.top)
    if bits := top in (0, *ENDS):
        bounds = (0, max(1, top))
    elif len(rows.shape) == 3 and found.eight_bit and bounds[0] >= 0 and bounds[1] <= 255:
        bounds = (0, 255)
    name = f"file:{shown(path, 200)}"
    dataset = Dataset(
        name,
        shown(path.resolve(), 400),
        splits,
        rows.shape,
        bounds,
        None,
        {shown(path.name, 200): digest_of(path)},
        "published" if bits else "none",
        words,
    )
    return dataset, train, found


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, read a piece at a time."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
