"""Pen strokes: moves by a mixture of bivariate normals, what the pen does by a softmax."""

import math
from typing import Any

import jax.numpy as jnp

from models.batch import Sizes
from models.config import ConfigError, config, setting
from models.distributions.event import at_least_float32
from models.distributions.finite import DATA_HIGHEST, bounded
from models.distributions.strokes import PEN, Strokes
from models.likelihoods.shapes import Bias, Mean, Out
from models.networks.held import Held

CLOSEST = 0.99  # of correlations to ±1, so that no density is infinite


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
