"""Whole numbers as a file: quantised codes under the frequencies of each place, with loss only where they were made.

What both sides hold beside the file are the frequencies, which belong to the model as its weights do.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from models.config import ConfigError
from models.metrics.compression.stack import BitStack, Lattice, SymbolTable

MAGIC = b"aejc"
FIXED = len(MAGIC) + 4  # bytes of a file beside its words: what it is, and the number of rows

Rows = Int[np.ndarray, "n places"]


class Frequencies(NamedTuple):
    """How often each place has each number: lowest (places,), log_p (places, levels) of lowest, lowest + 1, ..."""

    lowest: Int[np.ndarray, " places"]
    log_p: Float[np.ndarray, "places levels"]

    def nearest(self, rows: Rows) -> Rows:
        """Return rows whose numbers are cut off at the least and the most that a place can have."""
        return np.clip(rows, self.lowest, self.lowest + self.log_p.shape[1] - 1)


def frequencies(rows: Rows, levels: int = 0) -> Frequencies:
    """Return the frequencies of rows: counts + 1/2 (Krichevsky-Trofimov), over the widest range of any.

    levels: numbers are 0 .. levels - 1, whether or not they occur.
    """
    lowest = np.zeros(rows.shape[1], int) if levels else rows.min(0) - 1
    levels = levels or int((rows.max(0) - lowest).max()) + 2
    counts = np.stack([np.bincount(place, minlength=levels) for place in (rows - lowest).T]) + 0.5
    return Frequencies(lowest, np.log(counts / counts.sum(1, keepdims=True)))


def written(rows: Rows, under: Frequencies) -> bytes:
    """Return the file of rows. Raises ConfigError for a number that its place cannot have."""
    if (under.nearest(rows) != rows).any():
        raise ConfigError("a code lies outside the range of its place: cut it off with Frequencies.nearest")
    stack = _stack(np.zeros(0, np.uint32))
    for place in reversed(range(rows.shape[1])):
        stack.push((rows - under.lowest)[:, [place]], _table(under, place, len(rows)))
    return MAGIC + len(rows).to_bytes(4, "little") + stack.words.astype("<u4").tobytes()


def read(content: bytes, under: Frequencies) -> Rows:
    """Return the rows of a file. Raises ConfigError for what is no such file."""
    if not content.startswith(MAGIC) or len(content) < FIXED or (len(content) - FIXED) % 4:
        raise ConfigError("the file holds no quantised codes, or only a part of them")
    n = int.from_bytes(content[len(MAGIC) : FIXED], "little")
    try:
        stack = _stack(np.frombuffer(content[FIXED:], "<u4").astype(np.uint32))
    except ValueError as error:  # words that no coder leaves behind
        raise ConfigError("the file holds more than its codes: it is damaged") from error
    rows = [stack.pop(n, _table(under, place, n)) for place in range(len(under.lowest))]
    if stack.bits:
        raise ConfigError("the file holds more than its codes: it is damaged, or of other frequencies")
    return np.concatenate(rows, axis=1) + under.lowest


def _stack(words: np.ndarray) -> BitStack:
    return BitStack(words, Lattice(1.0, 1), again=True)


def _table(under: Frequencies, place: int, n: int) -> SymbolTable:
    return SymbolTable(np.broadcast_to(under.log_p[place], (n, 1, under.log_p.shape[1])))
