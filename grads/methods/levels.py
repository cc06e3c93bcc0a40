"""Sums of products of single numbers, level by level: what elimination computes, in few operations on arrays.

XLA compiles thousands of operations on single numbers for minutes, and computes again what several results share. Here
the numbers lie in one table, and each new one is a sum of products of two entries of it. All sums whose factors are
known are one level, which is one operation for all: gather the factors, multiply, add up.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np


class ProductTable:
    """Entries of the table: constants first (0 in front), then `given` numbers, then the sums of each level."""

    def __init__(self, given: int):
        self.constants: dict[int, int] = {}
        self.given = given
        self.levels: list[list[SumOfProducts]] = []

    def number(self, place: int) -> "SumOfProducts":
        """The number at a place of those given."""
        return SumOfProducts(self, (), level=0, place=place)

    def of(self, value: Any) -> "SumOfProducts":
        """A whole number, or a number, as a number."""
        return value if isinstance(value, SumOfProducts) else SumOfProducts(self, (), level=0, constant=int(value))

    def evaluate(self, given: Any, wanted: Sequence[Any]) -> Any:
        """Return the wanted numbers (or whole numbers) for the values of those given, as one array."""
        goals = [self.of(value).closed() for value in wanted]
        values = list(dict.fromkeys([0, 1, *(v.constant for v in self._used(goals) if v.constant is not None)]))
        sizes = [len(values), self.given, *map(len, self.levels)]
        *start, size = itertools.accumulate(sizes)

        def at(v: SumOfProducts) -> int:
            return values.index(v.constant) if v.constant is not None else start[v.level] + v.place

        head = jnp.concatenate([jnp.asarray(values, given.dtype), given])
        table = jnp.concatenate([head, jnp.zeros(size - head.size, given.dtype)])
        for level, numbers in enumerate(self.levels, 1):
            terms = np.zeros((2, max(len(v.terms) for v in numbers), len(numbers)), np.int32)  # 0 times 0 where fewer
            for column, v in enumerate(numbers):
                terms[:, : len(v.terms), column] = np.transpose([[at(a), at(b)] for a, b in v.terms])
            sums = (table[terms[0]] * table[terms[1]]).sum(0)
            table = table.at[start[level] : start[level] + len(numbers)].set(sums)
        return table[np.asarray([at(v) for v in goals], np.int32)]

    def _used(self, goals: Sequence["SumOfProducts"]) -> list["SumOfProducts"]:
        inner = [f for numbers in self.levels for v in numbers for term in v.terms for f in term]
        return [*goals, *inner]


class SumOfProducts:
    """A sum of products of two numbers; its level is fixed when it is first read."""

    def __init__(self, table: ProductTable, terms: tuple, level: int = -1, **at: int):
        self.table, self.terms, self.level = table, terms, level
        self.place, self.constant = at.get("place", -1), at.get("constant")

    def closed(self) -> "SumOfProducts":
        """This number, in a level: one above the highest of its factors."""
        if self.level < 0:
            self.level = 1 + max(f.level for term in self.terms for f in term)
            levels = self.table.levels
            levels.extend([] for _ in range(self.level - len(levels)))
            self.place = len(levels[self.level - 1])
            levels[self.level - 1].append(self)
        return self

    def _sum(self) -> tuple:
        return self.terms if self.level < 0 else ((self, self.table.of(1)),)

    def __add__(self, other: Any) -> "SumOfProducts":
        return SumOfProducts(self.table, (*self._sum(), *self.table.of(other)._sum()))

    def __mul__(self, other: Any) -> "SumOfProducts":
        return SumOfProducts(self.table, ((self.closed(), self.table.of(other).closed()),))

    def __neg__(self) -> "SumOfProducts":
        return self * -1

    __radd__, __rmul__ = __add__, __mul__
