"""Positions of the nonzeros of a sparse matrix, and colourings that let few products see all of them.

Two columns that share no row can be probed by one product J (e_i + e_j): each row's value belongs to one of them. A
colouring groups columns so (rows likewise, by u^T J). Source: Gebremedhin, Manne & Pothen 2005, "What color is your
Jacobian?", sections 3 and 4 (distance-2 colouring of one side of the bipartite graph, greedy, largest degree first).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

__all__ = ["Pattern", "colour_columns", "colour_rows"]


@dataclass(frozen=True, eq=False)
class Pattern:
    """Positions (rows, columns) of the entries that may be nonzero in a matrix of `shape`, sorted by row."""

    rows: Int[np.ndarray, " nnz"]
    columns: Int[np.ndarray, " nnz"]
    shape: tuple[int, int]

    def __post_init__(self):
        for name, index, size in (("row", self.rows, self.shape[0]), ("column", self.columns, self.shape[1])):
            if len(index) and not 0 <= index.min() <= index.max() < size:
                raise ValueError(f"a {name} of the pattern is outside 0..{size - 1}: {index.min()}..{index.max()}")

    @classmethod
    def of(cls, given: Any) -> "Pattern":
        """Make a pattern from a dense array (nonzeros), a BCOO, a SciPy sparse matrix, or a Pattern."""
        if isinstance(given, Pattern):
            return given
        if hasattr(given, "indices") and hasattr(given, "n_sparse"):
            index = np.asarray(given.indices)
            return cls.at(index[:, 0], index[:, 1], given.shape)
        if hasattr(given, "tocoo"):
            coo = given.tocoo()
            return cls.at(coo.row, coo.col, given.shape)
        dense = np.asarray(given)
        if dense.ndim != 2:
            raise ValueError(f"a pattern is a matrix, got shape {dense.shape}")
        rows, columns = np.nonzero(dense)
        return cls.at(rows, columns, dense.shape)

    @classmethod
    def at(cls, rows: Any, columns: Any, shape: Any) -> "Pattern":
        """Make a pattern from positions in any order."""
        keys = np.asarray(rows, np.int64) * shape[1] + np.asarray(columns, np.int64)
        if np.any(keys[1:] <= keys[:-1]):  # most come sorted; np.unique would hash them all, far slower
            keys = np.sort(keys)
            keys = keys[np.append(True, keys[1:] > keys[:-1])]
        rows, columns = np.divmod(keys, max(shape[1], 1))
        return cls(rows.astype(np.int32), columns.astype(np.int32), (int(shape[0]), int(shape[1])))

    @property
    def fullest(self) -> tuple[int, int]:
        """The most entries in one row, and in one column: no colouring of the columns (rows) has fewer colours."""
        most = lambda index: int(np.bincount(index, minlength=1).max())
        return most(self.rows), most(self.columns)

    def dense(self) -> Bool[np.ndarray, "m n"]:
        """The pattern as a boolean matrix."""
        out = np.zeros(self.shape, bool)
        out[self.rows, self.columns] = True
        return out

    def covers(self, other: "Pattern") -> bool:
        """True when every position of `other` is one of this pattern."""
        if self is other:
            return True
        if self.shape != other.shape or len(other.rows) > len(self.rows):
            return False
        own, theirs = (p.rows.astype(np.int64) * p.shape[1] + p.columns for p in (self, other))
        place = np.searchsorted(own, theirs)
        return bool(np.all(place < len(own)) and np.all(own[place] == theirs))


def colour_columns(pattern: Pattern) -> Int[np.ndarray, " n"]:
    """Return a colour per column; columns of one colour share no row. Greedy, fullest columns first."""
    m, n = pattern.shape
    by_column = _grouped(pattern.rows, pattern.columns, n)
    width = np.bincount(pattern.rows, minlength=m)
    neighbours = np.bincount(pattern.columns, weights=width[pattern.rows], minlength=n)
    order = np.argsort(-neighbours, kind="stable").tolist()
    colours = [0] * n
    used = [0] * m  # the colours of a row's columns, one bit each
    for j in order:
        taken = 0
        for i in by_column[j]:
            taken |= used[i]
        bit = ~taken & (taken + 1)  # the lowest free one
        colours[j] = bit.bit_length() - 1
        for i in by_column[j]:
            used[i] |= bit
    return np.asarray(colours, np.int32).reshape(n)


def colour_rows(pattern: Pattern) -> Int[np.ndarray, " m"]:
    """Return a colour per row such that rows of one colour share no column."""
    return colour_columns(Pattern.at(pattern.columns, pattern.rows, pattern.shape[::-1]))


def _grouped(values: np.ndarray, groups: np.ndarray, count: int) -> list[list[int]]:
    """Return the list of values of every group."""
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups, minlength=count))[:-1]
    return [part.tolist() for part in np.split(values[order], ends)] if count else []
