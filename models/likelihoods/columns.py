"""Tables whose columns are of several kinds."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, PRNGKeyArray

from models.batch import Sizes
from models.config import ConfigError, config, setting
from models.distributions import LOG_2PI
from models.distributions.categorical import log_chosen
from models.distributions.event import Event, Mask, PerExample, at_least_float32, sum_event
from models.distributions.finite import DATA_HIGHEST, bounded, softplus
from models.likelihoods.shapes import Bias, Mean, Out
from models.networks.held import Held


def parse(column: str) -> int:
    """Return 0 for "numeric", k for "categorical:k", -k for "ordinal:k". Raises ConfigError for anything else."""
    name, _, count = column.partition(":")
    if name == "numeric" and not count:
        return 0
    if name not in ("categorical", "ordinal") or not count.isdecimal() or int(count) < 2:
        raise ConfigError(f"a column is numeric, categorical:K or ordinal:K with K at least 2, got {column!r}")
    return int(count) if name == "categorical" else -int(count)


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["out", "log_scale", "cuts", "gaps"], meta_fields=["columns"]
)
@dataclasses.dataclass(frozen=True)
class Mixed:
    """Independent columns: normal, categories by softmax, and ordered levels by cuts of a logistic variable.

    out: (batch, *event, channels): mean, logits, or location. columns: see `parse`, one per value of the event.
    log_scale: of the numeric columns. cuts: (ordinal columns, most levels - 1), rising along a row: P(x <= j) =
    sigmoid(cut_j - location), the proportional odds of McCullagh (1980). gaps: cut_{j+1} - cut_j, for which
    close cuts have no digits left. Codes of categories and levels are 0, 1, ...
    """

    out: Any
    log_scale: Any
    cuts: Any
    gaps: Any
    columns: tuple[int, ...]

    def groups(self) -> tuple[Array, ...]:
        """Return the numeric columns' means, the categorical ones' logits and the ordinal ones' locations."""
        out = at_least_float32(self.out).reshape(len(self.out), len(self.columns), -1)
        numeric, categorical, ordinal = self.places()
        known = np.arange(out.shape[-1])[None] < np.array(self.columns, int)[categorical][:, None]
        logits = jnp.where(known[None], out[:, categorical], jnp.finfo(out.dtype).min / 2)
        return out[:, numeric, 0], logits, out[:, ordinal, 0]

    def places(self) -> tuple[np.ndarray, ...]:
        """Return which columns are numeric, categorical, ordinal."""
        sizes = np.array(self.columns, int)
        return tuple(np.flatnonzero(which) for which in (sizes == 0, sizes > 0, sizes < 0))

    def joined(self, *parts: Array) -> Event:
        """Return values of the three groups, each (batch, columns), in the order and shape of the event."""
        order = np.argsort(np.concatenate(self.places()))
        return jnp.concatenate(parts, axis=1)[:, order].reshape(self.out.shape[:-1])

    def is_cut(self) -> Array:
        """Return which cuts an ordinal column has: (columns, most levels - 1)."""
        levels = -np.array(self.columns, int)[self.places()[2]]
        return jnp.asarray(np.arange(self.cuts.shape[1])[None] < levels[:, None] - 1)

    @property
    def mean(self) -> Event:
        """Return means of numeric columns, the likeliest category, and the mean level of ordinal ones."""
        mean, logits, location = self.groups()
        above = jax.nn.sigmoid(location[..., None] - self.cuts[None])  # P(x > j)
        level = jnp.sum(jnp.where(self.is_cut()[None], above, 0), axis=-1)
        return self.joined(mean, jnp.argmax(logits, axis=-1).astype(mean.dtype), level)

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw every column; codes as floats."""
        mean, logits, location = self.groups()
        keys = jax.random.split(key, 3)
        numbers = mean + jnp.exp(self.log_scale)[None] * jax.random.normal(keys[0], mean.shape, mean.dtype)
        codes = jax.random.categorical(keys[1], logits).astype(mean.dtype)
        variable = location + jax.random.logistic(keys[2], location.shape, mean.dtype)
        passed = self.is_cut()[None] & (variable[..., None] > self.cuts[None])
        return self.joined(numbers, codes, jnp.sum(passed, axis=-1).astype(mean.dtype))

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return Σ over observed columns of their log density or log probability, nats."""
        mean, logits, location = self.groups()
        flat = x.reshape(len(x), -1)
        numeric, categorical, ordinal = (flat[:, where] for where in self.places())
        z = (numeric - mean) * jnp.exp(-self.log_scale)[None]
        density = -0.5 * z * z - (self.log_scale + 0.5 * LOG_2PI)[None]
        chosen = log_chosen(logits, jnp.clip(jnp.round(categorical), 0, logits.shape[-1] - 1).astype(jnp.int32))
        return sum_event(self.joined(density, chosen, self.log_level(ordinal, location)), mask)

    def log_level(self, x: Array, location: Array) -> Array:
        """Return log P(cut_{j-1} < logistic variable <= cut_j), nats, without a difference of probabilities."""
        if not x.shape[1]:
            return jnp.zeros_like(location)
        levels = -jnp.asarray([c for c in self.columns if c < 0])[None]
        level = jnp.clip(jnp.round(x).astype(jnp.int32), 0, levels - 1)
        lowest, highest = level == 0, level == levels - 1

        def at(table: Array, index: Array) -> Array:
            every = jnp.broadcast_to(table[None], (len(x), *table.shape))
            return jnp.take_along_axis(every, index[..., None], axis=-1)[..., 0]

        upper = at(self.cuts, jnp.minimum(level, levels - 2)) - location
        lower = at(self.cuts, jnp.maximum(level - 1, 0)) - location
        inner = ~(lowest | highest)
        gaps = jnp.pad(self.gaps, ((0, 0), (0, 1)), constant_values=1)  # two levels have one cut, and no gap
        width = jnp.log(-jnp.expm1(-jnp.where(inner, at(gaps, jnp.clip(level - 1, 0, gaps.shape[1] - 1)), 1)))
        out = jnp.where(inner, width, 0) - jnp.where(highest, 0, softplus(-upper))
        return out - jnp.where(lowest, 0, softplus(lower))


class ColumnParameters(nnx.Module):
    """What columns learn beside the decoder: log scales of the numeric ones, cuts of the ordinal ones."""

    def __init__(self, cfg: "ColumnsLikelihood", columns: tuple[int, ...]):
        self.held, self.columns = Held(cfg), columns
        levels = np.array([-c for c in columns if c < 0], int)
        most = max(levels, default=2)
        self.log_scale = nnx.Param(jnp.full((columns.count(0),), jnp.log(cfg.std), float))
        self.first = nnx.Param(jnp.asarray(1 - levels / 2, float))  # cuts one apart, around 0
        self.steps = nnx.Param(jnp.full((len(levels), most - 2), math.log(math.e - 1), float))

    def __call__(self, out: Out, key: Any) -> Mixed:
        """Return p(x|z)."""
        log_scale, first, steps = (at_least_float32(p[...]) for p in (self.log_scale, self.first, self.steps))
        gaps = softplus(bounded(steps, math.inf))
        cuts = first[:, None] + jnp.concatenate([jnp.zeros_like(first)[:, None], jnp.cumsum(gaps, axis=1)], axis=1)
        return Mixed(out, bounded(log_scale, DATA_HIGHEST), cuts, gaps, self.columns)


@config
class ColumnsLikelihood:
    """Numbers, categories and ordered levels side by side; missing values are left out by the mask (HI-VAE's setting).

    Categories and levels are codes 0 .. K - 1, unscaled (Nazabal et al. 2020 treat such tables).
    """

    columns: tuple[str, ...] = ()
    """numeric, categorical:K or ordinal:K for every column in turn; empty: all numeric"""
    std: float = setting(1.0, above=0)
    """first standard deviation of numeric columns, each of which learns its own; units of x"""

    support = "columns"

    def check(self) -> None:
        """Raise ConfigError for a column of no known kind."""
        self.sizes()

    def sizes(self) -> tuple[int, ...]:
        """Return `parse` of every column."""
        return tuple(parse(column) for column in self.columns)

    def channels(self) -> int:
        """Return the largest number of categories, or 1."""
        return max([1, *self.sizes()])

    def build(self, sizes: Sizes, rngs: Any) -> ColumnParameters:
        """Return the module. Raises ConfigError unless there is one kind for every value of an example."""
        count = math.prod(sizes.shape)
        columns = self.sizes() or (0,) * count
        if len(columns) != count:
            raise ConfigError(f"columns must name the kind of all {count} columns of the data, got {len(columns)}")
        return ColumnParameters(self, columns)

    def bias(self, pixel_mean: Mean) -> Bias:
        """Return the mean of numeric columns; 0, all alike, for the others."""
        numeric = np.array([c == 0 for c in self.sizes()] or [True] * pixel_mean.size).reshape(pixel_mean.shape)
        rest = jnp.zeros((*pixel_mean.shape, self.channels() - 1), pixel_mean.dtype)
        return jnp.concatenate([jnp.where(numeric, pixel_mean, 0)[..., None], rest], axis=-1)
