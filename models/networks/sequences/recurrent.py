"""Recurrent networks: gated cells over the steps of an example, each layer in one scan."""

import math
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.batch import Sizes
from models.config import config, setting
from models.networks.encoder import layer_keys
from models.networks.layers import Linear, dropout
from models.networks.sequences.cells import Cells, States
from models.networks.sequences.steps import Embedding, Logits, OverSteps, Vectors, Writer, affine, check_writer


@config
class Recurrent(OverSteps):
    """Gated recurrent cells: the encoder's last state is the example; the decoder writes symbols in turn from its code.

    GRU (Cho et al. 2014, in the form of cuDNN) or LSTM (Hochreiter & Schmidhuber 1997, forget gate biased by 1). The
    decoder's first state and all its gates see the code. An encoder reads symbols, or numbers with the first axis as
    steps. With likelihood tokens a decoder writes symbols in turn, with strokes and `autoregressive` moves of a pen
    (sketch-rnn, Ha & Eck 2017); else it gives the numbers of every step from its state and the code alone (the
    unconditioned decoder of Srivastava et al. 2015, section 2.1).
    """

    cell: Literal["gru", "lstm"] = "gru"
    """gru or lstm"""
    width: int = setting(128, at_least=1)
    """numbers in the state of a layer"""
    layers: int = setting(1, at_least=1)
    """cells on top of each other"""
    embedding: int = setting(32, at_least=1)
    """numbers that stand for a symbol, or for a step's numbers"""
    autoregressive: bool = False
    """the decoder of likelihood strokes sees its own earlier moves, as that of symbols does; false: the code alone"""

    def fits(self, model: Any) -> None:
        """Raise ConfigError for tied weights, and for steps in turn that are neither symbols nor moves."""
        check_writer(self, model, numbers=not self.autoregressive)

    def embedding_width(self) -> int:
        """Return the numbers that stand for a symbol."""
        return self.embedding

    def build_encoder(self, sizes: Sizes, numbers: int, extra: int, rngs: nnx.Rngs) -> "RecurrentEncoder":
        """Return the network from example to the numbers of its posterior."""
        return RecurrentEncoder(self, sizes, numbers, extra, rngs=rngs)

    def build_decoder(
        self, inputs: int, sizes: Sizes, channels: int, rngs: nnx.Rngs, encoder: Any
    ) -> "RecurrentWriter | RecurrentSteps":
        """Return the network that writes symbols, or gives numbers, from a code; the encoder's config is unused."""
        if not sizes.symbols and not self.autoregressive:
            return RecurrentSteps(self, inputs, sizes, channels, rngs=rngs)
        return RecurrentWriter(self, inputs, sizes, channels, rngs=rngs)


def cells(cfg: Recurrent, rngs: nnx.Rngs) -> Cells:
    """Return the cells of a config."""
    return Cells(cfg.cell, cfg.embedding, cfg.width, cfg.layers, rngs=rngs)


class RecurrentEncoder(nnx.Module):
    """The last state before the end, then an affine head; `extra` numbers (a label) stand beside the state."""

    def __init__(self, cfg: Recurrent, sizes: Sizes, outputs: int, extra: int, *, rngs: nnx.Rngs):
        self.entry = Embedding(sizes, cfg.embedding, cfg.ends, rngs=rngs)
        self.cells, self.rate = cells(cfg, rngs), cfg.dropout
        self.head = Linear(cfg.width + extra, outputs, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "batch *shape"],
        key: PRNGKeyArray | None = None,
        extra: Float[Array, "batch extra"] | None = None,
    ) -> Float[Array, "batch outputs"]:
        """Return the head's numbers; a key means training mode."""
        into, out = layer_keys(key, 2)
        vectors, seen = self.entry(x)
        entered = affine(self.cells.enter[0], dropout(vectors, self.rate, into).swapaxes(0, 1))
        # steps outside the example keep the state: what pads it cannot matter
        inside = None if seen is None else seen.T[..., None]
        last, _ = self.cells.run(self.cells.zeros(x.shape[0], entered.dtype), entered, inside=inside)
        h = dropout(last[-1][0], self.rate, out)
        return self.head(h if extra is None else jnp.concatenate([h, extra.astype(h.dtype)], axis=1))


def by_example(layer: Linear, h: Float[Array, "steps batch width"], rate: float, key: Any) -> Logits:
    """Return a layer's value of the states of every step, dropout before it."""
    dropped = dropout(h.swapaxes(0, 1), rate, key).swapaxes(0, 1)
    return affine(layer, dropped).swapaxes(0, 1)  # turned where the numbers are fewer


class RecurrentSteps(nnx.Module):
    """The likelihood's numbers of every step, (batch, *shape, channels), from the states that a code runs through."""

    def __init__(self, cfg: Recurrent, inputs: int, sizes: Sizes, channels: int, *, rngs: nnx.Rngs):
        self.cells, self.rate = cells(cfg, rngs), cfg.dropout
        self.first = Linear(inputs, cfg.layers * self.cells.states * cfg.width, rngs=rngs)
        self.code = Linear(inputs, self.cells.gates, rngs=rngs)
        self.out = Linear(cfg.width, math.prod(sizes.shape[1:]) * channels, rngs=rngs)
        self.shape, self.channels = sizes.shape, channels

    def __call__(
        self, z: Float[Array, "batch inputs"], key: PRNGKeyArray | None = None, encoder: Any = None
    ) -> Float[Array, "batch *shape channels"]:
        """Return the likelihood's numbers; a key means training mode (dropout)."""
        code, start = self.code(z), self.cells.started(self.first(z))
        entered = jnp.broadcast_to(code[None], (self.shape[0], *code.shape))
        _, h = self.cells.run(start, entered, code)
        return by_example(self.out, h, self.rate, key).reshape(z.shape[0], *self.shape, self.channels)

    def set_bias(self, bias: Float[Array, "*shape channels"]) -> None:
        """Start from the mean of `bias` over the steps."""
        self.out.bias[...] = bias.mean(0).reshape(-1).astype(self.out.bias[...].dtype)


class RecurrentWriter(Writer):
    """Numbers of every step from those before it and the code, which gives the first state and enters every gate."""

    def __init__(self, cfg: Recurrent, inputs: int, sizes: Sizes, channels: int, *, rngs: nnx.Rngs):
        super().__init__(cfg, sizes, channels, cfg.width, rngs=rngs)
        self.cells = cells(cfg, rngs)
        self.first = Linear(inputs, cfg.layers * self.cells.states * cfg.width, rngs=rngs)
        self.code = Linear(inputs, self.cells.gates, rngs=rngs)

    def start(self, z: Float[Array, "batch inputs"]) -> tuple[States, Array]:
        """Return the state before the first step, and what the code adds to the gates of all."""
        return self.cells.started(self.first(z)), self.code(z)

    def step(self, carry: tuple[States, Array], before: Any, t: Any) -> tuple[Any, Float[Array, "batch channels"]]:
        """Return the next state and the numbers of step t from the one `before` it, (batch, *step)."""
        state, code = carry
        entered = self.cells.enter[0](self.entry.look_up(before[:, None])[:, 0]) + code
        state, h = self.cells.step(state, entered, code)
        return (state, code), self.out(h)

    def from_vectors(self, z: Float[Array, "batch inputs"], before: Vectors, key: PRNGKeyArray | None = None) -> Logits:
        """Return the numbers of all steps from the vectors of those before each, in one run."""
        into, out = layer_keys(key, 2)
        vectors = dropout(before, self.rate, into)
        start, code = self.start(z)
        _, h = self.cells.run(start, affine(self.cells.enter[0], vectors.swapaxes(0, 1)) + code[None], code)
        return by_example(self.out, h, self.rate, out)
