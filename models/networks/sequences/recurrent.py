"""Recurrent networks: gated cells over the steps of an example, all layers in one scan."""

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from models.batch import Sizes
from models.config import config, setting
from models.networks.encoder import layer_keys
from models.networks.layers import Linear, dropout
from models.networks.sequences.steps import Embedding, Logits, OverSteps, Vectors, Writer, affine, check_writer

State = tuple[tuple[Array, ...], ...]  # of each layer: (h,) of a GRU, (h, c) of an LSTM; each (batch, width)
GATES = {"gru": 3, "lstm": 4}


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


class Cells(nnx.Module):
    """The layers' cells: `enter` maps a layer's input to its gates, `recur` (width, gates * width) its state."""

    def __init__(self, cfg: Recurrent, *, rngs: nnx.Rngs):
        gates = GATES[cfg.cell] * cfg.width
        inputs = [cfg.embedding] + [cfg.width] * (cfg.layers - 1)
        self.enter = nnx.List([Linear(i, gates, rngs=rngs) for i in inputs])
        glorot = nnx.initializers.glorot_uniform()
        self.recur = nnx.List([nnx.Param(glorot(rngs.params(), (cfg.width, gates))) for _ in inputs])
        self.cell, self.width, self.states = cfg.cell, cfg.width, 1 if cfg.cell == "gru" else 2

    def zeros(self, batch: int, dtype: Any) -> State:
        """Return the first state of an encoder."""
        return tuple((jnp.zeros((batch, self.width), dtype),) * self.states for _ in self.recur)

    def step(self, state: State, entered: Float[Array, "batch gates"], more: Any = None) -> tuple[State, Array]:
        """Return the next states and the last layer's h; `entered`: the first layer's gates from its input and all.

        more: what is added to the gates of the other layers, (batch, gates).
        """
        out: list[tuple[Array, ...]] = []
        for i, (old, recur) in enumerate(zip(state, self.recur, strict=True)):
            if i:
                entered = self.enter[i](out[-1][0]) + (0 if more is None else more)
            out.append(self._cell(old, entered, old[0] @ recur[...]))
        return tuple(out), out[-1][0]

    # what a step takes beyond its product are three activations a unit: neither unrolling the scan nor one sigmoid for
    # both gates changes that
    def _cell(self, old: tuple[Array, ...], entered: Array, recurred: Array) -> tuple[Array, ...]:
        if self.cell == "gru":
            e, r = jnp.split(entered, 3, axis=1), jnp.split(recurred, 3, axis=1)
            reset, update = jax.nn.sigmoid(e[0] + r[0]), jax.nn.sigmoid(e[1] + r[1])
            new = jnp.tanh(e[2] + reset * r[2])
            return (new + update * (old[0] - new),)
        i, f, g, o = jnp.split(entered + recurred, 4, axis=1)
        c = jax.nn.sigmoid(f + 1) * old[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c


class RecurrentEncoder(nnx.Module):
    """The last state before the end, then an affine head; `extra` numbers (a label) stand beside the state."""

    def __init__(self, cfg: Recurrent, sizes: Sizes, outputs: int, extra: int, *, rngs: nnx.Rngs):
        self.entry = Embedding(sizes, cfg.embedding, cfg.ends, rngs=rngs)
        self.cells, self.rate = Cells(cfg, rngs=rngs), cfg.dropout
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
        entered = affine(self.cells.enter[0], dropout(vectors, self.rate, into))
        # steps outside the example keep the state: what pads it cannot matter
        steps = (entered.swapaxes(0, 1), None if seen is None else seen.T[..., None])

        def step(state: State, at: tuple[Array, Bool[Array, "batch one"] | None]) -> tuple[State, None]:
            entered, inside = at
            new, _ = self.cells.step(state, entered)
            return new if inside is None else jax.tree.map(functools.partial(jnp.where, inside), new, state), None

        state, _ = jax.lax.scan(step, self.cells.zeros(x.shape[0], entered.dtype), steps)
        h = dropout(state[-1][0], self.rate, out)
        return self.head(h if extra is None else jnp.concatenate([h, extra.astype(h.dtype)], axis=1))


class RecurrentSteps(nnx.Module):
    """The likelihood's numbers of every step, (batch, *shape, channels), from the states that a code runs through."""

    def __init__(self, cfg: Recurrent, inputs: int, sizes: Sizes, channels: int, *, rngs: nnx.Rngs):
        self.cells, self.rate = Cells(cfg, rngs=rngs), cfg.dropout
        self.first = Linear(inputs, cfg.layers * self.cells.states * cfg.width, rngs=rngs)
        self.code = Linear(inputs, GATES[cfg.cell] * cfg.width, rngs=rngs)
        self.out = Linear(cfg.width, math.prod(sizes.shape[1:]) * channels, rngs=rngs)
        self.shape, self.channels = sizes.shape, channels

    def __call__(
        self, z: Float[Array, "batch inputs"], key: PRNGKeyArray | None = None, encoder: Any = None
    ) -> Float[Array, "batch *shape channels"]:
        """Return the likelihood's numbers; a key means training mode (dropout)."""
        code, start = self.code(z), started(self.cells, self.first(z))
        _, h = jax.lax.scan(lambda s, _: self.cells.step(s, code, code), start, None, self.shape[0])
        out = affine(self.out, dropout(h.swapaxes(0, 1), self.rate, key))
        return out.reshape(z.shape[0], *self.shape, self.channels)

    def set_bias(self, bias: Float[Array, "*shape channels"]) -> None:
        """Start from the mean of `bias` over the steps."""
        self.out.bias[...] = bias.mean(0).reshape(-1).astype(self.out.bias[...].dtype)


def started(cells: Cells, numbers: Float[Array, "batch states"]) -> State:
    """Return the first state of every layer from the numbers that a code became."""
    each = cells.states
    parts = jnp.split(jnp.tanh(numbers), len(cells.recur) * each, axis=1)
    return tuple(tuple(parts[i : i + each]) for i in range(0, len(parts), each))


class RecurrentWriter(Writer):
    """Numbers of every step from those before it and the code, which gives the first state and enters every gate."""

    def __init__(self, cfg: Recurrent, inputs: int, sizes: Sizes, channels: int, *, rngs: nnx.Rngs):
        super().__init__(cfg, sizes, channels, cfg.width, rngs=rngs)
        self.cells = Cells(cfg, rngs=rngs)
        self.first = Linear(inputs, cfg.layers * self.cells.states * cfg.width, rngs=rngs)
        self.code = Linear(inputs, GATES[cfg.cell] * cfg.width, rngs=rngs)

    def start(self, z: Float[Array, "batch inputs"]) -> tuple[State, Array]:
        """Return the state before the first step, and what the code adds to the gates of all."""
        return started(self.cells, self.first(z)), self.code(z)

    def step(self, carry: tuple[State, Array], before: Any, t: Any) -> tuple[Any, Float[Array, "batch channels"]]:
        """Return the next state and the numbers of step t from the one `before` it, (batch, *step)."""
        state, code = carry
        entered = self.cells.enter[0](self.entry.look_up(before[:, None])[:, 0]) + code
        state, h = self.cells.step(state, entered, code)
        return (state, code), self.out(h)

    def from_vectors(self, z: Float[Array, "batch inputs"], before: Vectors, key: PRNGKeyArray | None = None) -> Logits:
        """Return the numbers of all steps from the vectors of those before each, in one scan."""
        into, out = layer_keys(key, 2)
        vectors = dropout(before, self.rate, into)
        start, code = self.start(z)
        entered = affine(self.cells.enter[0], vectors) + code[:, None]
        _, h = jax.lax.scan(lambda state, e: self.cells.step(state, e, code), start, entered.swapaxes(0, 1))
        return affine(self.out, dropout(h.swapaxes(0, 1), self.rate, out))
