"""Symbols: whole numbers without an order."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from models.batch import Sizes
from models.config import ConfigError, config, setting
from models.distributions.categorical import log_chosen
from models.distributions.event import Event, Mask, PerExample, at_least_float32, sum_event
from models.distributions.sequence import kept
from models.likelihoods.shapes import Bias, Mean, Out
from models.networks.held import Held

SYMBOLS = 256  # bytes, where no data say how many


class Symbols(NamedTuple):
    """Independent symbols 0 .. n - 1 with P(k) = softmax(logits)_k; logits are (batch, *event, n)."""

    logits: Array

    @property
    def unit(self) -> str:
        """Return "bits": see `unit_of`."""
        return "bits"

    @property
    def symbolic(self) -> bool:
        """Return True: there is no distance between values."""
        return True

    @property
    def mean(self) -> Event:
        """Return the likeliest symbol, for symbols have no mean: its gradient is zero."""
        return jnp.argmax(self.logits, axis=-1).astype(self.logits.dtype)

    @property
    def likeliest(self) -> Event:
        """Return the likeliest symbol."""
        return self.mean

    def heated(self, temperature: Any, top_k: int = 0) -> "Symbols":
        """Return the symbols by softmax(logits / temperature) of the `top_k` likeliest (0: all)."""
        return Symbols(kept(self.logits, top_k) / temperature)

    def sample(self, key: PRNGKeyArray) -> Int[Array, "batch *event"]:
        """Draw symbols, as int32."""
        return jax.random.categorical(key, at_least_float32(self.logits)).astype(jnp.int32)

    def log_prob(self, x: Array, mask: Mask = None) -> PerExample:
        """Return Σ log P(x), nats, for integers x (or floats that hold them)."""
        index = jnp.clip(jnp.round(x), 0, self.logits.shape[-1] - 1).astype(jnp.int32)
        return sum_event(log_chosen(self.logits, index), mask)

    def log_table(self) -> Array:
        """Return log P of every symbol, nats: (batch, *event, n)."""
        return jax.nn.log_softmax(at_least_float32(self.logits))

    def entropy(self) -> PerExample:
        """Return -Σ Σ_k P(k) log P(k), nats."""
        log_p = jax.nn.log_softmax(self.logits)
        return sum_event(-jnp.sum(jnp.exp(log_p) * log_p, axis=-1))


@config
class TokensLikelihood:
    """Symbols 0 .. n - 1 without an order: integer data as they are, such as bytes, letters or codes."""

    symbols: int = setting(0, at_least=0)
    """number of symbols; 0: one more than the largest in the data (256 where there are none to look at)"""

    support = "symbols"

    def check(self) -> None:
        """Raise ConfigError for a single symbol."""
        if self.symbols == 1:
            raise ConfigError("symbols must be at least 2, or 0 for those of the data, got 1")

    def channels(self) -> int:
        """Return one logit per symbol."""
        return self.symbols or SYMBOLS

    def build(self, sizes: Sizes, rngs: Any) -> Held:
        """Return the module."""
        return Held(self)

    def __call__(self, out: Out, key: Any) -> Symbols:
        """Return the symbols with logits `out`."""
        return Symbols(out)

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return zeros, all symbols alike: a mean says nothing of them."""
        return jnp.zeros((*pixel_mean.shape, self.channels()), pixel_mean.dtype)
