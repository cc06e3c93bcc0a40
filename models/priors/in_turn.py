"""An autoregressive prior over discrete codes."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.config import ConfigError, config, setting
from models.distributions import Mask, PerExample

Vector = Float[Array, "batch dims"]
Chosen = Float[Array, "batch places size"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["book", "net"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class InTurn:
    """P(c) = Π_i P(c_i | c_<i) over the places of a code; `net` gives the logits of all places from all entries.

    `book.lookup(indices)` gives the vectors, `book.chosen(z)` the entries of vectors, one-hot.
    """

    book: Any
    net: Any

    @property
    def mean(self) -> Vector:
        """Return the code of the likeliest entry at each place in turn, (1, dims): discrete codes have no mean."""
        return self._walk(None)

    def sample(self, key: PRNGKeyArray) -> Vector:
        """Draw one code, (1, dims), place by place."""
        return self._walk(key)

    def _walk(self, key: PRNGKeyArray | None) -> Vector:
        def place(i: Array, chosen: Array) -> Array:
            logits = self.net(chosen)[0, i]
            if key is not None:
                logits = logits + jax.random.gumbel(jax.random.fold_in(key, i), logits.shape, logits.dtype)
            return chosen.at[0, i].set(jax.nn.one_hot(jnp.argmax(logits), self.net.size, dtype=chosen.dtype))

        start = jnp.zeros((1, self.net.places, self.net.size))
        return self.book.lookup(jnp.argmax(jax.lax.fori_loop(0, self.net.places, place, start), axis=-1))

    def log_prob(self, z: Vector, mask: Mask = None) -> PerExample:
        """Return log P of every code, nats; linear in between for relaxed choices."""
        chosen = self.book.chosen(z)
        return jnp.sum(chosen * jax.nn.log_softmax(self.net(chosen)), axis=(1, 2))


@config
class AutoregressivePrior:
    """Every entry of a code given those at the places before it, trained with the rest or fitted afterwards."""

    hidden: int = setting(128, at_least=1)
    """width of the masked network"""
    embedding: int = setting(16, at_least=1)
    """numbers that stand for an entry"""

    over_codes = True

    def fits(self, model: Any) -> None:
        """Raise ConfigError for codes that are no choice among entries, or whose entries cannot be told from z."""
        if not getattr(model.posterior, "discrete", False):
            raise ConfigError("prior autoregressive needs discrete codes: use posterior vq, fsq or gumbel")
        if getattr(model.posterior, "residual", False):
            raise ConfigError("prior autoregressive reads entries off the code: use posterior.levels 1, or prior codes")

    def build_over(self, book: Any, rngs: nnx.Rngs) -> "CodesAsTheyCome":
        """Return the module for the places and entries of a posterior's module."""
        return CodesAsTheyCome(MaskedCodes(book.places, book.size, self.hidden, self.embedding, rngs=rngs))


class CodesAsTheyCome(nnx.Module):
    """The network of the prior."""

    def __init__(self, net: "MaskedCodes"):
        self.net = net

    def __call__(self, model: Any, label: Any, key: Any) -> InTurn:
        """Return the prior over the posterior's codes, a batch of one."""
        return InTurn(model.posterior_module, self.net)


class MaskedCodes(nnx.Module):
    """Logits of every place from the entries before it: one hidden layer whose units see a number of places each.

    Unit j sees the first 1 + j mod (places - 1) places and is seen by those after them (Germain et al. 2015). At the
    start all entries are alike.
    """

    def __init__(self, places: int, size: int, hidden: int, embedding: int, *, rngs: nnx.Rngs):
        self.places, self.size, self.hidden = places, size, hidden
        glorot = nnx.initializers.glorot_uniform()
        self.entries = nnx.Param(jax.random.normal(rngs.params(), (size, embedding)))
        self.enter = nnx.Param(glorot(rngs.params(), (places * embedding, hidden)).reshape(places, embedding, hidden))
        self.bias = nnx.Param(jnp.zeros(hidden))
        self.leave = nnx.Param(jnp.zeros((hidden, places, size)))
        self.out = nnx.Param(jnp.zeros((places, size)))

    def __call__(self, chosen: Chosen) -> Chosen:
        """Return the logits, those of place i a function of the entries at places below i."""
        seen = 1 + jnp.arange(self.hidden) % max(1, self.places - 1)  # places that a hidden unit sees
        place = jnp.arange(self.places)
        enter = jnp.where((place[:, None] < seen[None])[:, None], self.enter[...], 0)
        leave = jnp.where((seen[:, None] <= place[None])[..., None], self.leave[...], 0)
        embedded = chosen @ self.entries[...]
        hidden = jnp.tanh(jnp.einsum("bpe,peh->bh", embedded, enter) + self.bias[...][None])
        return jnp.einsum("bh,hps->bps", hidden, leave) + self.out[...][None]
