"""Symbols one after the other: teacher forcing is the density, free running the draw."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

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
    ended = ids == END
    return jnp.cumsum(ended, axis=1) - ended == 0


def kept(logits: Float[Array, "batch n"], top_k: int) -> Float[Array, "batch n"]:
    """Return logits with all but the `top_k` largest at minus infinity; ties with the last of them stay; 0: all."""
    if not 0 < top_k < logits.shape[-1]:
        return logits
    return jnp.where(logits < jax.lax.top_k(logits, top_k)[0][:, -1:], -jnp.inf, logits)


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["net", "z", "likelihood", "key"], meta_fields=["shape", "ends"]
)
@dataclasses.dataclass(frozen=True)
class Sequence:
    """p(x|z) = Π_t P(x_t | x_<t, z) over the values of an example in stored order.

    `net.logits(z, ids, key)` gives the numbers of all steps from the symbols before each, in one pass; `net.start(z)`
    and `net.step(state, before, t)` the same numbers one step at a time. `likelihood(numbers, None)` makes them
    symbols. key: of word dropout, None in evaluation. ends: symbol 0 ends an example, so that symbols after the first 0
    are padding, which nothing looks at and a draw fills with 0; without, 0 is a symbol like any other.
    """

    net: Any
    z: Any
    likelihood: Any
    key: Any
    shape: tuple[int, ...]
    ends: bool

    @property
    def unit(self) -> str:
        """Return "bits": see `unit_of`."""
        return "bits"

    @property
    def symbolic(self) -> bool:
        """Return True: there is no distance between values."""
        return True

    @property
    def mean(self) -> Float[Array, "batch *shape"]:
        """Return the likeliest symbol at each step in turn, fed back: symbols have no mean, its gradient is zero."""
        return self._free_run(lambda logits, t: jnp.argmax(logits, axis=-1)).astype(self.z.dtype)

    def sample(self, key: PRNGKeyArray, temperature: Level = 1.0, top_k: int = 0) -> Int[Array, "batch *shape"]:
        """Draw symbols by softmax(logits / temperature) of the `top_k` likeliest (0: all), each fed to the next step.

        At temperature 1 of all symbols these are draws of the density.
        """

        def pick(logits: Array, t: Array) -> Array:
            return jax.random.categorical(jax.random.fold_in(key, t), kept(logits, top_k) / temperature)

        return self._free_run(pick)

    def given(self, x: Array) -> Float[Array, "batch steps n"]:
        """Return the logits of every step, each from the symbols of x before it."""
        return self._teacher_forced(x).logits

    def log_prob(self, x: Array, mask: Mask = None) -> PerExample:
        """Return Σ_t log P(x_t | x_<t, z), nats, up to and with the end; hidden symbols are fed as UNKNOWN."""
        if mask is not None:
            x = jnp.where(mask, x, UNKNOWN)
        p, ids, seen = self._teacher_forced(x), whole(x, self.net.symbols), self.observed(x, mask)
        return p.log_prob(ids, None if seen is None else seen.reshape(ids.shape))

    def observed(self, x: Array, mask: Mask = None) -> Mask:
        """Return which values of x the density speaks of: those of `mask` up to and with the end; None: all."""
        if not self.ends:
            return mask
        seen = until_end(whole(x, self.net.symbols)).reshape(x.shape)
        return seen if mask is None else seen & mask

    def _teacher_forced(self, x: Array) -> Any:
        symbols = whole(x, self.net.symbols)
        return self.likelihood(at_least_float32(self.net.logits(self.z, symbols, self.key)), None)

    def _free_run(self, pick: Any) -> Int[Array, "batch *shape"]:
        def step(carry: Any, t: Array) -> tuple[Any, Array]:
            state, before, alive = carry
            state, numbers = self.net.step(state, before, t)
            chosen = pick(self.likelihood(at_least_float32(numbers)[:, None], None).logits[:, 0], t).astype(jnp.int32)
            if self.ends:
                chosen = jnp.where(alive, chosen, END)
                alive = alive & (chosen != END)
            return (state, chosen, alive), chosen

        n = self.z.shape[0]
        start = (self.net.start(self.z), jnp.full(n, END, jnp.int32), jnp.ones(n, bool))
        _, chosen = jax.lax.scan(step, start, jnp.arange(self.net.steps))
        return chosen.T.reshape(n, *self.shape)
