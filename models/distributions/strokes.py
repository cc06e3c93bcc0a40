"""Pen strokes: moves by a mixture of bivariate normals, what the pen does by a softmax; their steps one by one."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from models.distributions.categorical import log_chosen
from models.distributions.event import Event, Mask, PerExample, at_least_float32, sum_event
from models.distributions.normal import LOG_2PI

Steps = Float[Array, "batch steps 3"]
PEN = 3  # what the pen does after a move: 0 it stays down, 1 it is lifted, 2 the drawing ends


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["logits", "mean_of", "log_scale", "correlation", "pen"],
    meta_fields=["shape"],
)
@dataclasses.dataclass(frozen=True)
class Strokes:
    """p = Π_t Σ_i softmax(logits)_i N2((dx, dy); mean_i, scales_i, correlation_i) softmax(pen)[p] up to the first end.

    logits, correlation: (batch, steps, k); mean_of, log_scale: (batch, steps, k, 2); pen: (batch, steps, 3). shape: of
    an event, whose values in order are (dx, dy, p) of each step; what follows the end is padding and has no density.
    """

    logits: Any
    mean_of: Any
    log_scale: Any
    correlation: Any
    pen: Any
    shape: tuple[int, ...]

    def event(self, move: Float[Array, "batch steps 2"], pen: Int[Array, "batch steps"]) -> Event:
        """Return values in the shape of an event."""
        steps = jnp.concatenate([move, pen[..., None].astype(move.dtype)], axis=2)
        return steps.reshape(len(steps), *self.shape)

    @property
    def likeliest(self) -> Event:
        """Return the mean move of the likeliest component at every step, and the likeliest thing that the pen does."""
        which = jnp.argmax(self.logits, axis=2)[..., None, None]
        return self.event(jnp.take_along_axis(self.mean_of, which, 2)[:, :, 0], jnp.argmax(self.pen, axis=2))

    def heated(self, temperature: Any, top_k: int = 0) -> "Strokes":
        """Return the density with logits / temperature and variances * temperature (Ha & Eck 2017, equation 8)."""
        log_scale = self.log_scale + 0.5 * jnp.log(jnp.asarray(temperature, self.log_scale.dtype))
        return dataclasses.replace(
            self, logits=self.logits / temperature, pen=self.pen / temperature, log_scale=log_scale
        )

    @property
    def mean(self) -> Event:
        """Return the mean move of every step and the likeliest thing that the pen does."""
        move = jnp.sum(jax.nn.softmax(self.logits)[..., None] * self.mean_of, axis=2)
        return self.event(move, jnp.argmax(self.pen, axis=2))

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw a component and a move of it, and the pen; after an end moves are 0 and the pen is at its end."""
        k_which, k_move, k_pen = jax.random.split(key, 3)
        which = jax.random.categorical(k_which, self.logits)[..., None]
        mean, log_scale = (jnp.take_along_axis(a, which[..., None], 2)[:, :, 0] for a in (self.mean_of, self.log_scale))
        r = jnp.take_along_axis(self.correlation, which, 2)[..., 0]
        first, second = jnp.moveaxis(jax.random.normal(k_move, mean.shape, mean.dtype), 2, 0)
        noise = jnp.stack([first, r * first + jnp.sqrt(1 - jnp.square(r)) * second], axis=2)
        pen = jax.random.categorical(k_pen, self.pen)
        seen = open_steps(pen)
        move = jnp.where(seen[..., None], mean + jnp.exp(log_scale) * noise, 0)
        return self.event(move, jnp.where(seen, pen, PEN - 1))

    def observed(self, x: Event, mask: Mask = None) -> Mask:
        """Return which values of x the density speaks of: those of `mask` up to and with the end."""
        return spoken_of(x, mask)

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return the log density of moves, in their own units, plus log probability of the pen: nats.

        A hidden dx hides its move.
        """
        steps = at_least_float32(x).reshape(len(x), -1, PEN)
        pen = pen_of(x)
        seen = open_steps(pen)
        z = (steps[:, :, None, :2] - self.mean_of) * jnp.exp(-self.log_scale)
        r = self.correlation
        left = 1 - jnp.square(r)
        square = jnp.sum(jnp.square(z), axis=3) - 2 * r * z[..., 0] * z[..., 1]
        each = -0.5 * square / left - jnp.sum(self.log_scale, axis=3) - 0.5 * jnp.log(left) - LOG_2PI
        move = jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + each, axis=2)
        terms = jnp.stack([move, jnp.zeros_like(move), log_chosen(self.pen, pen)], axis=2)
        return sum_event(jnp.where(seen[..., None], terms, 0).reshape(x.shape), mask)


def open_steps(pen: Array) -> Bool[Array, "batch steps"]:
    """Return which steps lie before the first end, or are it."""
    ends = (pen == PEN - 1).astype(jnp.int32)
    return jnp.cumsum(ends, axis=1) - ends == 0


def spoken_of(x: Array, mask: Mask) -> Mask:
    """Return which values of examples lie before the first end, or are of it, of those of `mask`."""
    seen = jnp.repeat(open_steps(pen_of(x))[..., None], PEN, axis=2).reshape(x.shape)
    return seen if mask is None else seen & mask


def pen_of(x: Array) -> Int[Array, "batch steps"]:
    """Return what the pen does at every step of examples (batch, ...) whose values in order are (dx, dy, p)."""
    return jnp.clip(jnp.round(x.reshape(len(x), -1, PEN)[..., 2]), 0, PEN - 1).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class MoveSteps:
    """Steps (dx, dy, p) that are moves of a pen, see `distributions.sequence.SymbolSteps`; shape: of one step."""

    shape: tuple[int, ...] = (PEN,)
    hidden: float = 0.0

    def read(self, x: Array) -> Steps:
        """Return examples as their steps."""
        return x

    def first(self, n: int, dtype: Any) -> Float[Array, "n 3"]:
        """Return what stands before the first step: no move, pen down."""
        return jnp.zeros((n, PEN), jnp.promote_types(dtype, jnp.float32))

    def dropped(self, steps: Steps, drop: Bool[Array, "batch steps"]) -> Steps:
        """Return steps with no move, pen down, in place of those to drop."""
        return jnp.where(drop[..., None], 0, steps)

    def closed(self, step: Float[Array, "n 3"], alive: Bool[Array, " n"]) -> tuple[Array, Bool[Array, " n"]]:
        """Return a step of n examples, no move with the pen at its end in those that ended, and which go on."""
        rest = jnp.zeros(PEN, step.dtype).at[2].set(PEN - 1)
        step = jnp.where(alive[:, None], step, rest[None])
        return step, alive & (pen_of(step)[:, 0] != PEN - 1)

    def observed(self, x: Array, mask: Mask = None) -> Mask:
        """Return which values a density speaks of: those of `mask` up to and with the end."""
        return spoken_of(x, mask)

    def seen(self, steps: Steps) -> Bool[Array, "batch steps"]:
        """Return which steps an encoder reads: those up to and with the end."""
        return open_steps(pen_of(steps))
