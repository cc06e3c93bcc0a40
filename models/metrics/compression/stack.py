"""A stack of bits: what is pushed under a distribution costs -log2 P bits, what is popped under one gives them back.

Asymmetric numeral systems (Duda 2013), by the library constriction (extra `compression`): pushing and popping under the
same distribution are each other's inverse to the bit, so popping from a stack of random bits draws a sample. Bits that
were pushed are random only as far as their distribution is true, so they are turned over at random before they are
popped under another one (`mask`).
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from models.config import ConfigError

DEPTH = 24  # bits of a probability, which are the most that one value takes off the stack
Words = np.ndarray
Symbols = Int[np.ndarray, "n values"]


class Lattice(NamedTuple):
    """The points k step that codes lie on, k = -half .. half - 1.

    Probabilities have 24 bits, and every point has one of them at least: 2 half 2^-24 of all draws lie anywhere, where
    an example costs hundreds of bits. So the lattice is no finer and no wider than the posteriors ask for.
    """

    step: float
    half: int


class LatticeNormals(NamedTuple):
    """Independent normals of lattice points, in units of the code: (n, values) each."""

    mean: Any
    std: Any


class SymbolTable(NamedTuple):
    """Probabilities of symbols 0 .. levels - 1, by their logarithms: (n, values, levels)."""

    log_p: Any


class BitStack:
    """Bits that are pushed and popped. It begins with `words`: random ones, or those of an earlier stack (`again`)."""

    def __init__(self, words: Words, lattice: Lattice, again: bool = False):
        try:
            import constriction
        except ImportError:
            raise ConfigError("compression needs the library constriction: pip install -e .[compression]") from None
        models = constriction.stream.model
        self.lattice = lattice
        self.normals = models.QuantizedGaussian(-lattice.half, lattice.half - 1)
        self.table = models.Categorical(perfect=False)
        self.coder_of = constriction.stream.stack.AnsCoder
        self.coder = self.coder_of(np.asarray(words, np.uint32), seal=not again)

    @property
    def bits(self) -> int:
        """Number of bits on the stack."""
        return int(self.coder.num_valid_bits())

    @property
    def words(self) -> Words:
        """The stack as words."""
        return self.coder.get_compressed()

    def mask(self, values: int) -> None:
        """Turn over the bits that so many values may be popped from, at random; once more turns them back.

        Which bits is known from the height of the stack alone. The last two words, the coder's state, stay.
        """
        words = self.words
        count = max(0, min(len(words) - 2, 2 + values * DEPTH // 32))
        at = len(words) - 2
        words[at - count : at] ^= np.random.default_rng(len(words)).integers(0, 2**32, count, dtype=np.uint32)
        self.coder = self.coder_of(words, seal=False)

    def _under(self, p: LatticeNormals | SymbolTable, rows: int) -> tuple[Any, ...]:
        """Return the library's model and its parameters for the first rows."""
        if isinstance(p, LatticeNormals):
            flat = lambda a: np.asarray(a, np.float64)[:rows].reshape(-1) / self.lattice.step
            edge = self.lattice.half - 1.0
            return self.normals, np.clip(flat(p.mean), -edge, edge), np.maximum(flat(p.std), 1e-3)
        logs = np.asarray(p.log_p, np.float64)[:rows]
        likelihood = np.exp(logs.reshape(-1, logs.shape[-1]))
        return self.table, (likelihood / likelihood.sum(1, keepdims=True)).astype(np.float32)

    def push(self, symbols: Symbols, p: LatticeNormals | SymbolTable) -> None:
        """Put symbols (n, values) on the stack, under the first n rows of p."""
        self.coder.encode_reverse(np.ascontiguousarray(symbols, np.int32).reshape(-1), *self._under(p, len(symbols)))

    def pop(self, rows: int, p: LatticeNormals | SymbolTable) -> Symbols:
        """Take symbols (rows, values) from the stack, under the first rows of p."""
        return np.asarray(self.coder.decode(*self._under(p, rows))).reshape(rows, -1)
