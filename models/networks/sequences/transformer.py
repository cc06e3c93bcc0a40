"""Transformers: every step looks at the others; a decoder only at those before it."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from models.batch import Sizes
from models.config import ConfigError, config, setting
from models.networks.encoder import layer_keys
from models.networks.layers import LayerNorm, Linear, dropout
from models.networks.sequences.steps import Embedding, Logits, OverSteps, Vectors, Writer, affine, steps_of

Cache = tuple[Array, Array]  # keys and values so far, (batch, steps, width)
HIDDEN = -1e30  # finite: a row without any visible step has a gradient too


@config
class Transformer(OverSteps):
    """Layers of attention and a perceptron, each after a layer norm (Vaswani et al. 2017; pre-norm: Xiong et al. 2020).

    Places are learned vectors. The encoder's answer is the mean over the steps before the end; the decoder sees its
    code at every step. An encoder reads symbols, or numbers with the first axis as steps; a decoder needs likelihood
    tokens or strokes, sees its own earlier steps, and runs freely with the keys and values of these kept.
    """

    width: int = setting(64, at_least=1)
    """numbers of a step"""
    layers: int = setting(2, at_least=1)
    """attention and perceptron, this many times"""
    heads: int = setting(4, at_least=1)
    """attentions side by side, a divisor of the width"""

    def check(self) -> None:
        """Raise ConfigError unless the heads divide the width."""
        if self.width % self.heads:
            raise ConfigError(f"heads must divide width {self.width}, got {self.heads}")

    def embedding_width(self) -> int:
        """Return the numbers that stand for a symbol."""
        return self.width

    def build_encoder(self, sizes: Sizes, numbers: int, extra: int, rngs: nnx.Rngs) -> "TransformerEncoder":
        """Return the network from example to the numbers of its posterior."""
        return TransformerEncoder(self, sizes, numbers, extra, rngs=rngs)

    def build_decoder(
        self, inputs: int, sizes: Sizes, channels: int, rngs: nnx.Rngs, encoder: Any
    ) -> "TransformerWriter":
        """Return the network that writes steps in turn from a code; the config of the encoder is unused."""
        return TransformerWriter(self, inputs, sizes, channels, rngs=rngs)


class Layer(nnx.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)) with four times the width inside."""

    def __init__(self, cfg: Any, *, rngs: nnx.Rngs):
        width = cfg.width  # cfg: of any network of such layers, with width, heads and dropout
        self.before, self.between = LayerNorm(width), LayerNorm(width)
        self.into, self.back = Linear(width, 3 * width, rngs=rngs), Linear(width, width, rngs=rngs)
        self.up, self.down = Linear(width, 4 * width, rngs=rngs), Linear(4 * width, width, rngs=rngs)
        self.heads, self.rate = cfg.heads, cfg.dropout

    def __call__(
        self, x: Vectors, visible: Bool[Array, "b s all"], key: PRNGKeyArray | None, past: Any = None, at: Any = None
    ) -> tuple[Vectors, Cache]:
        """Return the layer's value and its keys and values; with those of `past`, x is the one step `at`."""
        attended, passed = layer_keys(key, 2)
        x, cache = self.attend(x, visible, attended, past, at)
        return x + dropout(self.perceptron(self.between(x, False)), self.rate, passed), cache

    def attend(
        self, x: Vectors, visible: Bool[Array, "b s all"], key: PRNGKeyArray | None, past: Any = None, at: Any = None
    ) -> tuple[Vectors, Cache]:
        """Return x + attention(norm(x)), and the keys and values."""
        query, *new = jnp.split(affine(self.into, self.before(x, False)), 3, axis=2)
        put = lambda old, one: jax.lax.dynamic_update_slice_in_dim(old, one, at, axis=1)
        keys, values = new if past is None else (put(old, one) for old, one in zip(past, new, strict=True))
        part = lambda a: a.reshape(*a.shape[:2], self.heads, -1)
        scores = jnp.einsum("bqhd,bkhd->bhqk", part(query), part(keys)) / math.sqrt(x.shape[-1] / self.heads)
        weight = jax.nn.softmax(jnp.where(visible[:, None], scores, HIDDEN), axis=-1)
        seen = jnp.einsum("bhqk,bkhd->bqhd", weight, part(values)).reshape(x.shape)
        return x + dropout(affine(self.back, seen), self.rate, key), (keys, values)

    def perceptron(self, x: Vectors) -> Vectors:
        """Return the perceptron's value at every step, from what has been normed."""
        return affine(self.down, jax.nn.gelu(affine(self.up, x)))


def places(steps: int, width: int, rngs: nnx.Rngs) -> nnx.Param:
    """Return the vectors of all places, (steps, width)."""
    return nnx.Param(0.1 * jax.random.normal(rngs.params(), (steps, width)))


class TransformerEncoder(nnx.Module):
    """Layers, the mean over the steps before the end, and an affine head; `extra` numbers stand beside the mean."""

    def __init__(self, cfg: Transformer, sizes: Sizes, outputs: int, extra: int, *, rngs: nnx.Rngs):
        self.entry = Embedding(sizes, cfg.width, cfg.ends, rngs=rngs)
        self.place = places(steps_of(sizes), cfg.width, rngs)
        self.layers = nnx.List([Layer(cfg, rngs=rngs) for _ in range(cfg.layers)])
        self.norm, self.head = LayerNorm(cfg.width), Linear(cfg.width + extra, outputs, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "batch *shape"],
        key: PRNGKeyArray | None = None,
        extra: Float[Array, "batch extra"] | None = None,
    ) -> Float[Array, "batch outputs"]:
        """Return the head's numbers; a key means training mode."""
        vectors, seen = self.entry(x)
        seen = jnp.ones(vectors.shape[:2], bool) if seen is None else seen
        h = vectors + self.place[...][None]
        for layer, k in zip(self.layers, layer_keys(key, len(self.layers)), strict=True):
            h, _ = layer(h, seen[:, None, :], k)
        total = jnp.sum(jnp.where(seen[..., None], self.norm(h, False), 0), axis=1)
        mean = total / jnp.maximum(jnp.sum(seen, axis=1, keepdims=True), 1).astype(total.dtype)
        return self.head(mean if extra is None else jnp.concatenate([mean, extra.astype(mean.dtype)], axis=1))


class TransformerWriter(Writer):
    """Numbers of every step from those before it and the code, which is added to every step."""

    def __init__(self, cfg: Transformer, inputs: int, sizes: Sizes, channels: int, *, rngs: nnx.Rngs):
        super().__init__(cfg, sizes, channels, cfg.width, rngs=rngs)
        self.code = Linear(inputs, cfg.width, rngs=rngs)
        self.place = places(self.steps, cfg.width, rngs)
        self.layers = nnx.List([Layer(cfg, rngs=rngs) for _ in range(cfg.layers)])
        self.norm, self.width = LayerNorm(cfg.width), cfg.width

    def start(self, z: Float[Array, "batch inputs"]) -> tuple[Array, tuple[Cache, ...]]:
        """Return what the code adds to every step, and no keys and values yet."""
        code = self.code(z)
        none = jnp.zeros((z.shape[0], self.steps, self.width), code.dtype)
        return code, tuple((none, none) for _ in self.layers)

    def step(self, carry: Any, before: Any, t: Any) -> tuple[Any, Float[Array, "batch channels"]]:
        """Return the next state and the numbers of step t from the one `before` it, (batch, *step)."""
        code, caches = carry
        h = self.entry.look_up(before[:, None]) + code[:, None] + self.place[...][t][None, None]
        visible = jnp.broadcast_to(jnp.arange(self.steps) <= t, (h.shape[0], 1, self.steps))
        out = []
        for layer, past in zip(self.layers, caches, strict=True):
            h, cache = layer(h, visible, None, past, t)
            out.append(cache)
        return (code, tuple(out)), self.out(self.norm(h, False)[:, 0])

    def from_vectors(self, z: Float[Array, "batch inputs"], before: Vectors, key: PRNGKeyArray | None = None) -> Logits:
        """Return the numbers of all steps from the vectors of those before each, in one pass."""
        return self.from_stream(self.stream(z, before, 0), 0, key)

    def stream(self, z: Float[Array, "batch inputs"], before: Vectors, layers: int) -> Vectors:
        """Return the residual stream behind the first so many layers, without dropout: what dictionaries read."""
        h = before + self.code(z)[:, None] + self.place[...][None]
        for layer in list(self.layers)[:layers]:
            h, _ = layer(h, self.past, None)
        return h

    def from_stream(self, h: Vectors, layers: int, key: PRNGKeyArray | None = None) -> Logits:
        """Return the logits of all steps from the residual stream behind the first so many layers, its own or another.

        What stands in the stream's place is judged by what it does to the logits (cross-entropy recovered).
        """
        for layer, k in list(zip(self.layers, layer_keys(key, len(self.layers)), strict=True))[layers:]:
            h, _ = layer(h, self.past, k)
        return affine(self.out, self.norm(h, False))

    @property
    def past(self) -> Bool[Array, "1 s s"]:
        """Which steps a step sees: itself and those before it."""
        return jnp.tril(jnp.ones((1, self.steps, self.steps), bool))
