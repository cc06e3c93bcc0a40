"""Examples on a stack of bits, group by group, and back.

A group's networks run as one program of one shape both ways, so that encoder and decoder compute the same bits; a short
last group is filled up with zeros that are not coded. Another machine, or another version of XLA, may round otherwise
and then decodes noise: the file holds a digest that tells (`file.py`).
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from models.metrics.compression.moves import Move, moves_of
from models.metrics.compression.stack import BitStack, Lattice, LatticeNormals, SymbolTable

GROUP = 16  # examples whose codes are drawn before the first of them is written: more need more bits to begin with

FINEST, WIDEST = 2.0**-10, 64.0  # step and reach of a lattice, units of the code

Levels = Int[np.ndarray, "n values"]


class Coder:
    """The moves of a model, compiled once each."""

    def __init__(self, model: Any, lattice: Lattice, group: int = GROUP):
        self.model, self.lattice, self.group = model, lattice, group
        self.moves = moves_of(model, lattice.step)
        self._compiled = [jax.jit(move.params) for move in self.moves]

    def params(self, number: int, known: dict[str, Any]) -> Any:
        """Return the distribution of a move's symbols, or its symbols, for a whole group."""
        move = self.moves[number]
        given = {name: self._filled(known[name]) for name in move.given}
        found = jax.device_get(self._compiled[number](self.model, given))
        widen = lambda a: np.broadcast_to(a, (self.group, *a.shape[1:])) if a.shape[0] == 1 else a
        return jax.tree.map(widen, found)

    def _filled(self, symbols: Any) -> np.ndarray:
        out = np.zeros((self.group, symbols.shape[1]), np.int32)
        out[: len(symbols)] = symbols
        return out

    def push(self, stack: BitStack, x: Levels) -> None:
        """Put one group of examples on the stack."""
        known: dict[str, Any] = {"x": x}
        for number, move in enumerate(self.moves):
            params = self.params(number, known)
            if move.how == "set":
                known[move.name] = params[: len(x)]
            elif move.how == "pop":
                stack.mask(len(x) * params[0].shape[1])
                known[move.name] = stack.pop(len(x), params)
            elif move.in_turn:  # the last value first, so that the first one comes off first
                for i in reversed(range(known[move.name].shape[1])):
                    stack.push(known[move.name][:, i : i + 1], _place(params, i))
            else:
                stack.push(known[move.name], params)

    def pop(self, stack: BitStack, rows: int) -> Levels:
        """Take one group of examples from the stack."""
        known: dict[str, Any] = {}
        for number in reversed(range(len(self.moves))):
            move = self.moves[number]
            if move.how == "pop":
                stack.push(known[move.name], self.params(number, known))
                stack.mask(known[move.name].size)
            elif move.how == "push" and move.in_turn:
                known[move.name] = self._in_turn(stack, number, move, rows, known)
            elif move.how == "push":
                known[move.name] = stack.pop(rows, self.params(number, known))
        return known["x"]

    def _in_turn(self, stack: BitStack, number: int, move: Move, rows: int, known: dict[str, Any]) -> Any:
        found = np.zeros((rows, move.in_turn), np.int32)
        for i in range(move.in_turn):
            found[:, i : i + 1] = stack.pop(rows, _place(self.params(number, known | {move.name: found}), i))
        return found

    def groups(self, n: int) -> list[slice]:
        """Return the groups of n examples, the last of which may be short."""
        return [slice(start, min(start + self.group, n)) for start in range(0, n, self.group)]


def _place(params: SymbolTable, i: int) -> SymbolTable:
    return SymbolTable(params.log_p[:, i : i + 1])


def coder_for(model: Any, x: Levels) -> Coder:
    """Return the coder of a model whose lattice suits the posteriors of examples like the first of x.

    Its step is a third of nearly all of their deviations, a power of two from 2^-10 to 2^-3; it reaches to 8, or to
    6 deviations beyond their means. Both are found on the finest lattice, at the means of the codes.
    """
    fine = Coder(model, Lattice(FINEST, 2))
    known: dict[str, Any] = {"x": x[: fine.group]}
    widths, reach = [np.ones(1)], 8.0
    for number, move in enumerate(fine.moves):
        if move.name in known:
            continue
        params = fine.params(number, known)
        if isinstance(params, LatticeNormals):
            mean, std = (np.asarray(a, np.float64)[: len(known["x"])] for a in params)
            widths.append(std.reshape(-1))
            reach = max(reach, float((np.abs(mean) + 6 * std).max()))
            known[move.name] = np.round(mean / FINEST).astype(np.int32)
        else:
            known[move.name] = np.zeros((len(known["x"]), model.posterior_module.places), np.int32)
    step = 2.0 ** np.floor(np.log2(np.quantile(np.concatenate(widths), 0.02) / 3))
    step = float(np.clip(step, FINEST, 2.0**-3))
    return Coder(model, Lattice(step, 1 << int(np.ceil(np.log2(min(reach, WIDEST) / step)))))


def first_words(model: Any, group: int = GROUP, seed: int = 0) -> np.ndarray:
    """Return random words to begin with: 24 bits for every unit that the first group draws, and then some."""
    units = 2 * model.latent + getattr(model.prior_module, "units", 0)
    return np.random.default_rng(seed).integers(0, 2**32, 8 + group * units * 24 // 32, dtype=np.uint32)


def pushed(coder: Coder, x: Levels) -> tuple[BitStack, int, np.ndarray]:
    """Return the stack that holds all examples, the bits it began with, and the net bits of every group."""
    stack = BitStack(first_words(coder.model, coder.group), coder.lattice)
    begun, sizes = stack.bits, []
    for group in coder.groups(len(x)):
        before = stack.bits
        coder.push(stack, x[group])
        sizes.append(stack.bits - before)
    return stack, begun, np.asarray(sizes)


def popped(coder: Coder, words: np.ndarray, n: int) -> Levels:
    """Return n examples from the words of a stack."""
    stack = BitStack(words, coder.lattice, again=True)
    parts = [coder.pop(stack, len(range(n)[group])) for group in reversed(coder.groups(n))]
    return np.concatenate(parts[::-1])
