"""What recurrent networks and transformers share: steps of an example as vectors, their mask, word dropout."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from models.batch import Sizes
from models.config import ConfigError, config, kind, static
from models.distributions.sequence import END, UNKNOWN, Sequence, until_end, whole
from models.networks.encoder import layer_keys
from models.networks.layers import Linear

Ids = Int[Array, "batch steps"]
Vectors = Float[Array, "batch steps width"]
Logits = Float[Array, "batch steps channels"]


def affine(layer: Linear, x: Float[Array, "batch steps inputs"]) -> Float[Array, "batch steps outputs"]:
    """Return a layer's value at every step."""
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def steps_of(sizes: Sizes) -> int:
    """Return the steps of an example: its symbols in stored order, or its first axis where it holds numbers."""
    return math.prod(sizes.shape) if sizes.symbols else sizes.shape[0]


def drop_words(ids: Ids, rate: float, key: PRNGKeyArray | None) -> Ids:
    """Put UNKNOWN in place of each symbol but the end with probability `rate` (Bowman et al. 2016, section 3.1)."""
    if key is None or rate == 0:
        return ids
    return jnp.where(jax.random.bernoulli(key, rate, ids.shape) & (ids != END), UNKNOWN, ids)


@config
class OverSteps:
    """What every network over the steps of an example is told; `embedding_width` and the two `build`s are its own."""

    drop_words: float = static(0.0, at_least=0, at_most=1)
    """probability with which the decoder sees unknown (1) in place of a symbol in training; 1: it sees only the code"""
    dropout: float = static(0.0, at_least=0, below=1)
    """probability with which a number into or out of the cells, or that a layer adds, is zeroed in training; 0: none"""
    ends: bool = True
    """symbol 0 ends an example, what follows is padding; false: 0 is a symbol like any other"""

    def fits(self, model: Any) -> None:
        """Raise ConfigError for a decoder of what is not symbols, and tied weights."""
        check_writer(self, model)

    def mirrored(self) -> Any:
        """Return the decoder that reverses this encoder: itself."""
        return self


class Embedding(nnx.Module):
    """From the steps of an example to vectors: a table of symbols, or an affine map of a step's numbers."""

    def __init__(self, sizes: Sizes, width: int, ends: bool, *, rngs: nnx.Rngs):
        self.symbols, self.steps, self.ends = sizes.symbols, steps_of(sizes), ends
        if self.symbols:
            self.table = nnx.Param(0.1 * jax.random.normal(rngs.params(), (self.symbols, width)))
        else:
            self.affine = Linear(math.prod(sizes.shape[1:]), width, rngs=rngs)

    def __call__(self, x: Float[Array, "batch *shape"]) -> tuple[Vectors, Bool[Array, "batch steps"] | None]:
        """Return the vectors, and which steps lie before the end (None: all)."""
        if not self.symbols:
            return affine(self.affine, x.reshape(x.shape[0], self.steps, -1)), None
        ids = whole(x, self.symbols)
        return self.look_up(ids), until_end(ids) & (ids != END) if self.ends else None

    def look_up(self, ids: Ids) -> Vectors:
        """Return the table's rows."""
        return self.table[...][ids]


class Writer(nnx.Module):
    """A decoder of symbols in turn: a net of `Sequence`. Subclasses have `start`, `step`, `from_vectors`."""

    def __init__(self, cfg: Any, sizes: Sizes, channels: int, width: int, *, rngs: nnx.Rngs):
        self.entry = Embedding(sizes._replace(symbols=channels), cfg.embedding_width(), cfg.ends, rngs=rngs)
        self.out = Linear(width, channels, rngs=rngs)
        self.symbols, self.steps, self.shape = channels, self.entry.steps, sizes.shape
        self.ends, self.drop, self.rate = cfg.ends, cfg.drop_words, cfg.dropout

    def sequence(self, z: Float[Array, "batch inputs"], key: PRNGKeyArray | None, likelihood: Any) -> Sequence:
        """Return p(x|z); a key means training mode (word dropout, dropout)."""
        return Sequence(self, z, likelihood, key, self.shape, self.ends)

    def before(self, ids: Ids, key: PRNGKeyArray | None) -> Ids:
        """Return the symbol before each step, END before the first; dropped ones are UNKNOWN."""
        return jnp.pad(drop_words(ids, self.drop, key), ((0, 0), (1, 0)), constant_values=END)[:, :-1]

    def logits(self, z: Float[Array, "batch inputs"], ids: Ids, key: PRNGKeyArray | None = None) -> Logits:
        """Return the logits of all steps, (batch, steps, channels), each from the symbols before it and the code."""
        words, more = layer_keys(key, 2)
        return self.from_vectors(z, self.entry.look_up(self.before(ids, words)), more)

    def from_vectors(self, z: Float[Array, "batch inputs"], before: Vectors, key: PRNGKeyArray | None = None) -> Logits:
        """Return the logits of all steps from the vectors of the symbols before each."""
        raise NotImplementedError

    def set_bias(self, bias: Float[Array, "*shape channels"]) -> None:
        """Start from the mean of `bias` over the steps."""
        self.out.bias[...] = bias.reshape(-1, self.symbols).mean(0).astype(self.out.bias[...].dtype)


def check_writer(cfg: Any, model: Any, numbers: bool = False) -> None:
    """Raise ConfigError where `cfg` writes neither symbols nor (if it can) `numbers`, or reverses with tied weights."""
    mirror = hasattr(model.decoder, "tied")
    if mirror and model.decoder.tied and model.encoder is cfg:
        raise ConfigError(f"encoder {kind(type(cfg))} has no transpose: use decoder mirror with tied=False")
    writes = model.decoder is cfg or (mirror and model.encoder is cfg)
    likelihood = kind(type(model.likelihood))
    if writes and not numbers and likelihood not in ("auto", "tokens"):
        raise ConfigError(
            f"decoder {kind(type(cfg))} writes symbols, likelihood {likelihood} has none: use likelihood tokens, or "
            "decoder dense"
        )
