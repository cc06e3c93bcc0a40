"""Pen strokes: moves by a mixture of bivariate normals, what the pen does by a softmax."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from models.batch import Sizes
from models.config import ConfigError, config, setting
from models.distributions import LOG_2PI
from models.distributions.categorical import log_chosen
from models.distributions.event import Event, Mask, PerExample, at_least_float32, sum_event
from models.distributions.finite import DATA_HIGHEST, bounded
from models.likelihoods.shapes import Bias, Mean, Out
from models.networks.held import Held

PEN = 3  # what the pen does after a move: 0 it stays down, 1 it is lifted, 2 the drawing ends
CLOSEST = 0.99  # of correlations to ±1, so that no density is infinite


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

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return the log density of moves, in their own units, plus log probability of the pen: nats.

        A hidden dx hides its move.
        """
        steps = at_least_float32(x).reshape(len(x), -1, PEN)
        pen = jnp.clip(jnp.round(steps[..., 2]), 0, PEN - 1).astype(jnp.int32)
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


@config
class StrokesLikelihood:
    """Moves (dx, dy) of a pen by a mixture of bivariate normals, and whether it is lifted or the drawing ends.

    Graves 2013 (Generating sequences with recurrent neural networks, section 4.2); three states of the pen as in Ha and
    Eck 2017 (sketch-rnn). Values of an example in order: dx, dy, p of every step, p 0 down, 1 lifted, 2 end. Steps are
    independent given the code.
    """

    components: int = setting(5, at_least=1)
    """bivariate normals of every move"""
    width: float = setting(1.0, above=0)
    """first standard deviation of the moves, units of x"""

    support = "pen"

    def channels(self) -> int:
        """Return numbers per value: a step has 3 of them for 6 numbers of a component and 3 of the pen."""
        return 2 * self.components + 1

    def build(self, sizes: Sizes, rngs: Any) -> Held:
        """Return the module. Raises ConfigError for values that are not (dx, dy, p) of every step."""
        if math.prod(sizes.shape) % PEN:
            raise ConfigError(f"likelihood strokes needs dx, dy and the pen of every step, got {sizes.shape} values")
        return Held(self)

    def __call__(self, out: Out, key: Any) -> Strokes:
        """Return the density; a component's log scale is log width plus the decoder's number, in [-20, 10]."""
        numbers = at_least_float32(out).reshape(len(out), -1, PEN * self.channels())
        k = self.components
        pen, logits, turn, rest = jnp.split(numbers, [PEN, PEN + k, PEN + 2 * k], axis=2)
        mean, offset = jnp.split(rest.reshape(*rest.shape[:2], k, 4), 2, axis=3)
        log_scale = bounded(jnp.log(self.width) + offset, DATA_HIGHEST)
        return Strokes(logits, self.width * mean, log_scale, CLOSEST * jnp.tanh(turn), pen, out.shape[1:-1])

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return equal weights of components around the mean move, their means one width apart in a row."""
        move = pixel_mean.reshape(-1, PEN)[:, None, :2] / self.width
        spread = jnp.linspace(-1, 1, self.components) if self.components > 1 else jnp.zeros(1)
        mean = move + spread.astype(move.dtype)[None, :, None]
        rest = jnp.concatenate([mean, jnp.zeros_like(mean)], axis=2).reshape(len(mean), -1)
        nothing = jnp.zeros((len(mean), PEN + 2 * self.components), pixel_mean.dtype)
        return jnp.concatenate([nothing, rest], axis=1).reshape(*pixel_mean.shape, self.channels())
