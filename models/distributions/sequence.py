"""Steps one after the other: teacher forcing is the density, free running the draw."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray

from models.distributions.event import Mask, PerExample, at_least_float32

END, UNKNOWN = 0, 1  # of a text: what ends and pads it, and what stands for a hidden or unseen symbol
Symbols = Int[Array, "batch steps"]
Level = Float[Array, ""] | float


def whole(x: Array, symbols: int) -> Symbols:
    """Return examples (batch, *shape) of whole numbers, floats or not, as int32 (batch, steps) below `symbols`."""
    flat = x.reshape(x.shape[0], -1)
    return jnp.clip(jnp.round(flat), 0, symbols - 1).astype(jnp.int32)


def until_end(ids: Symbols) -> Bool[Array, "batch steps"]:
    """Return true up to and with the first END: what the density speaks of; what follows is padding."""
    ended, last = ids == END, ids.shape[1]
    first = jnp.where(ended.any(axis=1), jnp.argmax(ended, axis=1), last)
    return jnp.arange(last)[None] <= first[:, None]


def kept(logits: Float[Array, "*batch n"], top_k: int) -> Float[Array, "*batch n"]:
    """Return logits with all but the `top_k` largest at minus infinity; ties with the last of them stay; 0: all."""
    if not 0 < top_k < logits.shape[-1]:
        return logits
    return jnp.where(logits < jax.lax.top_k(logits, top_k)[0][..., -1:], -jnp.inf, logits)


@dataclasses.dataclass(frozen=True)
class SymbolSteps:
    """Steps that are symbols 0 .. `symbols` - 1.

    ends: symbol 0 ends an example, so that symbols after the first 0 are padding, which nothing looks at and a draw
    fills with 0; without, 0 is a symbol like any other. shape: of one step. hidden: what is fed for a hidden value.
    """

    symbols: int
    ends: bool = True
    shape: tuple[int, ...] = ()
    hidden: int = UNKNOWN

    def read(self, x: Array) -> Symbols:
        """Return examples (batch, ...) as their steps."""
        return whole(x, self.symbols)

    def first(self, n: int, dtype: Any) -> Int[Array, " n"]:
        """Return what stands before the first step of n examples."""
        return jnp.full(n, END, jnp.int32)

    def dropped(self, steps: Symbols, drop: Bool[Array, "batch steps"]) -> Symbols:
        """Return steps with UNKNOWN in place of those to drop, but for ends."""
        return jnp.where(drop & (steps != END), UNKNOWN, steps)

    def closed(self, step: Array, alive: Bool[Array, " n"]) -> tuple[Array, Bool[Array, " n"]]:
        """Return a step of n examples, with END in those that ended before it, and which examples go on."""
        if not self.ends:
            return step, alive
        step = jnp.where(alive, step, END)
        return step, alive & (step != END)

    def observed(self, x: Array, mask: Mask = None) -> Mask:
        """Return which values a density speaks of: those of `mask` up to and with the end; None: all."""
        if not self.ends:
            return mask
        seen = until_end(self.read(x)).reshape(x.shape)
        return seen if mask is None else seen & mask

    def seen(self, steps: Symbols) -> Bool[Array, "batch steps"] | None:
        """Return which steps an encoder reads: those before the end; None: all."""
        return until_end(steps) & (steps != END) if self.ends else None


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["net", "z", "likelihood", "key"], meta_fields=["shape"]
)
@dataclasses.dataclass(frozen=True)
class Sequence:
    """p(x|z) = Π_t p(x_t | x_<t, z) over the steps of an example in stored order.

    `net.of` says what a step is: a symbol (`SymbolSteps`) or a move of a pen (`strokes.MoveSteps`).
    `net.numbers(z, steps, key)` gives the numbers of all steps from those before each, in one pass; `net.start(z)` and
    `net.step(state, before, t)` the same numbers one step at a time. `likelihood(numbers, None)` makes them a
    distribution, with `heated` and `likeliest`. key: of dropped steps, None in evaluation.
    """

    net: Any
    z: Any
    likelihood: Any
    key: Any
    shape: tuple[int, ...]

    @property
    def unit(self) -> str:
        """Return "bits" of symbols, "density" of moves: see `unit_of`."""
        return "bits" if self.symbolic else "density"

    @property
    def symbolic(self) -> bool:
        """Return whether there is no distance between values."""
        return isinstance(self.net.of, SymbolSteps)

    @property
    def ends(self) -> bool:
        """Return whether examples are symbols up to an end, which a mean over symbols counts."""
        return self.symbolic and self.net.of.ends

    @property
    def mean(self) -> Float[Array, "batch *shape"]:
        """Return the likeliest step in turn, fed back: symbols have no mean, its gradient is zero."""
        return self._free_run(lambda p, t: p.likeliest).astype(self.z.dtype)

    def sample(self, key: PRNGKeyArray, temperature: Level = 1.0, top_k: int = 0) -> Num[Array, "batch *shape"]:
        """Draw step by step, each fed to the next, from the distribution at a temperature, see its `heated`.

        Symbols: softmax(logits / temperature) of the `top_k` likeliest (0: all). At temperature 1 of all these are
        draws of the density.
        """
        return self._free_run(lambda p, t: p.heated(temperature, top_k).sample(jax.random.fold_in(key, t)))

    def given(self, x: Array) -> Float[Array, "batch steps n"]:
        """Return the logits of every step, each from the symbols of x before it."""
        return self._teacher_forced(x).logits

    def log_prob(self, x: Array, mask: Mask = None) -> PerExample:
        """Return Σ_t log p(x_t | x_<t, z), nats, up to and with the end; hidden values are fed as `net.of.hidden`."""
        if mask is not None:
            x = jnp.where(mask, x, self.net.of.hidden)
        p, steps, seen = self._teacher_forced(x), self.net.of.read(x), self.observed(x, mask)
        return p.log_prob(steps, None if seen is None else seen.reshape(steps.shape))

    def observed(self, x: Array, mask: Mask = None) -> Mask:
        """Return which values of x the density speaks of: those of `mask` up to and with the end; None: all."""
        return self.net.of.observed(x, mask)

    def _teacher_forced(self, x: Array) -> Any:
        return self.likelihood(at_least_float32(self.net.numbers(self.z, self.net.of.read(x), self.key)), None)

    def _free_run(self, pick: Any) -> Num[Array, "batch *shape"]:
        def step(carry: Any, t: Array) -> tuple[Any, Array]:
            state, before, alive = carry
            state, numbers = self.net.step(state, before, t)
            p = self.likelihood(at_least_float32(self.net.by_value(numbers))[:, None], None)
            chosen, alive = self.net.of.closed(pick(p, t)[:, 0].astype(before.dtype), alive)
            return (state, chosen, alive), chosen

        n = self.z.shape[0]
        start = (self.net.start(self.z), self.net.of.first(n, self.z.dtype), jnp.ones(n, bool))
        _, chosen = jax.lax.scan(step, start, jnp.arange(self.net.steps))
        return chosen.swapaxes(0, 1).reshape(n, *self.shape)
