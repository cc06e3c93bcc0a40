"""What recurrent networks and transformers share: steps of an example as vectors, their mask, word dropout."""

import math
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from models.batch import Sizes
from models.config import ConfigError, config, kind, static
from models.distributions.sequence import Sequence, SymbolSteps
from models.distributions.strokes import PEN, MoveSteps
from models.networks.encoder import layer_keys
from models.networks.layers import Linear

Ids = Int[Array, "batch steps"]
Vectors = Float[Array, "batch steps width"]
Logits = Float[Array, "batch steps n"]  # of symbols; of moves the numbers of their density


def affine(layer: Linear, x: Float[Array, "batch steps inputs"]) -> Float[Array, "batch steps outputs"]:
    """Return a layer's value at every step."""
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def steps_of(sizes: Sizes) -> int:
    """Return the steps of an example: its symbols in stored order, or its first axis where it holds numbers."""
    return math.prod(sizes.shape) if sizes.symbols else sizes.shape[0]


def step_of(sizes: Sizes, ends: bool) -> SymbolSteps | MoveSteps | None:
    """Return what a step of an example is; None for numbers."""
    if sizes.pen:
        return MoveSteps()
    return SymbolSteps(sizes.symbols, ends) if sizes.symbols else None


def drop_words(steps: Array, of: SymbolSteps | MoveSteps, rate: float, key: PRNGKeyArray | None) -> Array:
    """Put the unknown in place of each step with probability `rate` (Bowman et al. 2016, section 3.1)."""
    if key is None or rate == 0:
        return steps
    return of.dropped(steps, jax.random.bernoulli(key, rate, steps.shape[:2]))


@config
class OverSteps:
    """What every network over the steps of an example is told; `embedding_width` and the two `build`s are its own."""

    drop_words: float = static(0.0, at_least=0, at_most=1)
    """probability with which the decoder sees unknown (1; of a pen: no move) in place of the step before in training;
    1: it sees only the code"""
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
        self.symbols, self.steps, self.of = sizes.symbols, steps_of(sizes), step_of(sizes, ends)
        if self.symbols:
            self.table = nnx.Param(0.1 * jax.random.normal(rngs.params(), (self.symbols, width)))
        else:
            self.affine = Linear(math.prod(sizes.shape[1:]), width, rngs=rngs)

    def __call__(self, x: Float[Array, "batch *shape"]) -> tuple[Vectors, Bool[Array, "batch steps"] | None]:
        """Return the vectors, and which steps lie before the end (None: all)."""
        if isinstance(self.of, SymbolSteps):
            ids = self.of.read(x)
            return self.look_up(ids), self.of.seen(ids)
        vectors = self.look_up(x.reshape(x.shape[0], self.steps, -1))
        return vectors, None if self.of is None else self.of.seen(x[..., :PEN])  # behind these: marks

    def look_up(self, steps: Array) -> Vectors:
        """Return the table's rows, or the affine map of a step's numbers (batch, steps, n)."""
        if self.symbols:
            return self.table[...][steps]
        dtype = self.affine.kernel[...].dtype  # a short one means arithmetic in it
        return affine(self.affine, steps.astype(dtype) if dtype.itemsize < 4 else steps)


class Writer(nnx.Module):
    """A decoder of steps in turn: a net of `Sequence`. Subclasses have `start`, `step`, `from_vectors`."""

    def __init__(self, cfg: Any, sizes: Sizes, channels: int, width: int, *, rngs: nnx.Rngs):
        if not sizes.symbols and not sizes.pen:
            raise ConfigError(
                f"moves in turn are examples of (steps, {PEN}) values, got shape {sizes.shape}; an array is read so "
                "with --kind series"
            )
        self.entry = Embedding(sizes, cfg.embedding_width(), cfg.ends, rngs=rngs)
        self.of = cast(Any, self.entry.of)
        self.steps, self.shape = self.entry.steps, sizes.shape
        self.channels, self.drop, self.rate = channels, cfg.drop_words, cfg.dropout
        self.out = Linear(width, math.prod(self.of.shape) * channels, rngs=rngs)

    def sequence(self, z: Float[Array, "batch inputs"], key: PRNGKeyArray | None, likelihood: Any) -> Sequence:
        """Return p(x|z); a key means training mode (word dropout, dropout)."""
        return Sequence(self, z, likelihood, key, self.shape)

    def before(self, steps: Array, key: PRNGKeyArray | None) -> Array:
        """Return what stands before each step: END or no move before the first, the unknown where dropped."""
        first = self.of.first(len(steps), steps.dtype)[:, None].astype(steps.dtype)
        return jnp.concatenate([first, drop_words(steps, self.of, self.drop, key)], axis=1)[:, :-1]

    def numbers(
        self, z: Float[Array, "batch inputs"], steps: Array, key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch steps *step channels"]:
        """Return the likelihood's numbers of all steps, (batch, steps, *step, channels), from those before each."""
        words, more = layer_keys(key, 2)
        return self.by_value(self.from_vectors(z, self.entry.look_up(self.before(steps, words)), more))

    def by_value(self, numbers: Float[Array, "... n"]) -> Float[Array, "... channels"]:
        """Return a step's numbers (..., n) value by value, (..., *step, channels)."""
        return numbers.reshape(*numbers.shape[:-1], *self.of.shape, self.channels)

    def from_vectors(self, z: Float[Array, "batch inputs"], before: Vectors, key: PRNGKeyArray | None = None) -> Logits:
        """Return the numbers of all steps from the vectors of the steps before each."""
        raise NotImplementedError

    def set_bias(self, bias: Float[Array, "*shape channels"]) -> None:
        """Start from the mean of `bias` over the steps."""
        n = self.out.bias[...].size
        self.out.bias[...] = bias.reshape(-1, n).mean(0).astype(self.out.bias[...].dtype)


def check_writer(cfg: Any, model: Any, numbers: bool = False) -> None:
    """Raise ConfigError where `cfg` writes neither steps in turn nor (if it can) `numbers`, or has no transpose."""
    mirror = hasattr(model.decoder, "tied")
    if mirror and model.decoder.tied and model.encoder is cfg:
        raise ConfigError(f"encoder {kind(type(cfg))} has no transpose: use decoder mirror with tied=False")
    writes = model.decoder is cfg or (mirror and model.encoder is cfg)
    likelihood = kind(type(model.likelihood))
    if writes and not numbers and likelihood not in ("auto", "tokens", "strokes"):
        raise ConfigError(
            f"decoder {kind(type(cfg))} writes step by step, likelihood {likelihood} does not: use likelihood tokens "
            "or strokes, or decoder dense"
        )
