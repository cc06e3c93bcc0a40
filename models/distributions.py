"""Distributions as pytrees: the batch is the first axis, the event is all the others.

Each has `mean` (the shape of x), `sample(key)` and `log_prob(x)` in nats, summed over the event; `kl(other)`
and `entropy()` where they have a closed form. `Point` is the posterior of a plain autoencoder: no density.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models import continuous_bernoulli as cb

LOG_2PI = 1.8378770664093453
LEVELS = 256  # an 8-bit pixel is k / 255, k = 0 .. 255

Event = Float[Array, "batch *event"]
PerExample = Float[Array, " batch"]


def sum_event(x: Event) -> PerExample:
    """Sum over every axis but the first."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def log1p_of_unit(e: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return log(1 + e) for 0 <= e <= 1, to rounding, as 2 atanh(s) with s = e / (2 + e) <= 1/3.

    In float32 the odd series up to s^15 is exact to rounding (the rest is below s 9^-8 / 17) and, being plain
    arithmetic, cheaper on a CPU than log1p.
    """
    if e.dtype != jnp.float32:
        return jnp.log1p(e)
    s = e / (2 + e)
    square = s * s
    series = jnp.full_like(s, 1 / 15)
    for power in (13, 11, 9, 7, 5, 3, 1):
        series = series * square + 1 / power
    return 2 * s * series


@jax.custom_jvp
def softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return log(1 + exp(x)): one exponential, one logarithm, finite with its gradient for every finite x."""
    return jnp.maximum(x, 0) + log1p_of_unit(jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # spelled out: JAX's derivatives of max and |.| at 0 do not add up to 1/2; the exponential serves both
    (x,) = primals
    e = jnp.exp(-jnp.where(x >= 0, x, -x))
    return jnp.maximum(x, 0) + log1p_of_unit(e), jnp.where(x >= 0, 1, e) / (1 + e) * tangents[0]


class Point(NamedTuple):
    """All mass at `mean`: the posterior of a plain autoencoder. It has no density: no log_prob, no kl."""

    mean: Array

    def sample(self, key: PRNGKeyArray) -> Event:
        """Return the point; `key` is unused."""
        return self.mean


class Normal(NamedTuple):
    """Independent normals; `log_std` has the shape of `mean` or is one shared number."""

    mean: Array
    log_std: Array

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw mean + std ε with ε ~ N(0, 1): the reparameterisation (Kingma & Welling 2014, section 2.4)."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_std) * noise

    def log_prob(self, x: Event) -> PerExample:
        """Return Σ -((x - mean) / std)² / 2 - log std - log(2π) / 2, nats."""
        z = (x - self.mean) * jnp.exp(-self.log_std)
        return sum_event(-0.5 * z * z - (self.log_std + 0.5 * LOG_2PI))

    def kl_terms(self, other: "Normal") -> Event:
        """Return KL(self || other) of every dimension, nats: (batch, *event)."""
        gap = (self.mean - other.mean) * jnp.exp(-other.log_std)
        log_ratio = self.log_std - other.log_std
        return 0.5 * (gap * gap + jnp.expm1(2 * log_ratio)) - log_ratio

    def kl(self, other: "Normal") -> PerExample:
        """Return KL(self || other) in nats; a batch of one in `other` serves every example."""
        return sum_event(self.kl_terms(other))

    def entropy(self) -> PerExample:
        """Return Σ log std + (1 + log 2π) / 2, nats."""
        return sum_event(jnp.broadcast_to(self.log_std + 0.5 * (1 + LOG_2PI), self.mean.shape))


class OptimalNormal(NamedTuple):
    """A normal whose one variance is the best for the batch that `log_prob` sees.

    σ² = mean over batch and event of (x - mean)², in closed form (Rybkin et al. 2021, "Simple and effective
    VAE training with calibrated decoders", section 3.2). The batch shares σ, so an example's log_prob depends
    on its batch: right for training; for evaluation a fixed scale (the running `log_std`) is
    the honest one.
    """

    mean: Array
    log_std: Array

    def variance(self, x: Event) -> Float[Array, ""]:
        """Return the batch's mean squared error, at least 1e-12."""
        return jnp.maximum(jnp.mean(jnp.square(x - self.mean)), 1e-12)

    def log_prob(self, x: Event) -> PerExample:
        """Return log N(x; mean, σ²), nats, σ² the batch's; its gradient in σ is zero at the optimum."""
        return Normal(self.mean, 0.5 * jnp.log(self.variance(x))).log_prob(x)

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw with the running scale `log_std`."""
        return Normal(self.mean, self.log_std).sample(key)


class Laplace(NamedTuple):
    """Independent Laplace variables of density exp(-|x - mean| / b) / (2 b), b = exp(log_scale)."""

    mean: Array
    log_scale: Array

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw mean + b ε with ε ~ Laplace(0, 1)."""
        noise = jax.random.laplace(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_scale) * noise

    def log_prob(self, x: Event) -> PerExample:
        """Return Σ -|x - mean| / b - log 2b, nats."""
        distance = jnp.abs(x - self.mean) * jnp.exp(-self.log_scale)
        return sum_event(-distance - (self.log_scale + jnp.log(2.0)))

    def kl(self, other: "Laplace") -> PerExample:
        """Return Σ log(b'/b) + (|Δ| + b exp(-|Δ| / b)) / b' - 1 with Δ the difference of means, nats."""
        gap = jnp.abs(self.mean - other.mean)
        spread = jnp.exp(self.log_scale - other.log_scale) * jnp.exp(-gap * jnp.exp(-self.log_scale))
        scaled = gap * jnp.exp(-other.log_scale) + spread
        return sum_event(other.log_scale - self.log_scale + scaled - 1)

    def entropy(self) -> PerExample:
        """Return Σ 1 + log 2b, nats."""
        return sum_event(jnp.broadcast_to(self.log_scale + 1 + jnp.log(2.0), self.mean.shape))


class Bernoulli(NamedTuple):
    """Independent bits with P(1) = sigmoid(logits); for x in [0, 1] log_prob is minus the cross-entropy."""

    logits: Array

    @property
    def mean(self) -> Event:
        """Return sigmoid(logits)."""
        return jax.nn.sigmoid(self.logits)

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw zeros and ones."""
        return jax.random.bernoulli(key, self.mean).astype(self.logits.dtype)

    def log_prob(self, x: Event) -> PerExample:
        """Return Σ x l - log(1 + exp l), nats; finite with its gradient x - sigmoid(l) at any finite l."""
        return sum_event(x * self.logits - softplus(self.logits))

    def kl(self, other: "Bernoulli") -> PerExample:
        """Return Σ p (l - l') - log(1 + exp l) + log(1 + exp l'), nats."""
        gap = self.mean * (self.logits - other.logits)
        return sum_event(gap - softplus(self.logits) + softplus(other.logits))

    def entropy(self) -> PerExample:
        """Return Σ log(1 + exp l) - p l, nats."""
        return sum_event(softplus(self.logits) - self.mean * self.logits)


class ContinuousBernoulli(NamedTuple):
    """Densities exp(l x) on [0, 1], normalised (Loaiza-Ganem & Cunningham 2019); l = logit of their λ."""

    logits: Array

    @property
    def mean(self) -> Event:
        """Return 1 / (1 - exp(-l)) - 1 / l: 1/2 at l = 0, and not sigmoid(l)."""
        return cb.mean(self.logits)

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw by the inverse distribution function."""
        uniform = jax.random.uniform(key, self.logits.shape, self.logits.dtype)
        return cb.quantile(uniform, self.logits)

    def log_prob(self, x: Event) -> PerExample:
        """Return Σ x l - log((exp(l) - 1) / l), nats; gradient x - mean, accurate at every l."""
        return sum_event(x * self.logits - cb.log_normalizer(self.logits))

    def kl(self, other: "ContinuousBernoulli") -> PerExample:
        """Return Σ mean (l - l') - A(l) + A(l') with A the log normaliser, nats."""
        gap = self.mean * (self.logits - other.logits)
        return sum_event(gap - cb.log_normalizer(self.logits) + cb.log_normalizer(other.logits))

    def entropy(self) -> PerExample:
        """Return the differential entropy Σ A(l) - mean l, nats (at most 0)."""
        return sum_event(cb.log_normalizer(self.logits) - self.mean * self.logits)


class DiscretizedLogistic(NamedTuple):
    """A logistic variable rounded to the nearest k / 255; the edge levels 0 and 1 take the tails.

    PixelCNN++ (Salimans et al. 2017, section 2.1) with one component. `location` and `log_scale` are those of
    the logistic variable, in the units of x.
    """

    location: Array
    log_scale: Array

    @property
    def mean(self) -> Event:
        """Return the mean of the logistic variable clipped to [0, 1].

        It is ∫₀¹ P(X > t) dt = s (softplus(m / s) - softplus((m - 1) / s)).
        The mean of the rounded variable is the midpoint sum of the same integral over 255 cells; they differ
        by at most half a level (1/510), far less unless the scale is below a level.
        """
        scale = jnp.exp(self.log_scale)
        return scale * (softplus(self.location / scale) - softplus((self.location - 1) / scale))

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw levels k / 255."""
        noise = jax.random.logistic(key, self.location.shape, self.location.dtype)
        x = self.location + jnp.exp(self.log_scale) * noise
        return jnp.round(jnp.clip(x, 0, 1) * (LEVELS - 1)) / (LEVELS - 1)

    def log_prob(self, x: Event) -> PerExample:
        """Return Σ log P(level), nats, for x = k / 255.

        With u, v the upper and lower edge in units of the scale, an inner level has
        sigmoid(u) - sigmoid(v) = sigmoid(u) sigmoid(-v) (1 - exp(v - u)): a sum of logarithms, no difference.
        """
        half = 0.5 / (LEVELS - 1)
        inverse = jnp.exp(-self.log_scale)
        below = softplus(-(x - self.location + half) * inverse)
        above = softplus((x - self.location - half) * inverse)
        lowest, highest = x < half, x > 1 - half
        width = jnp.log(-jnp.expm1(-2 * half * inverse))
        inner = jnp.where(lowest | highest, 0, width)
        return sum_event(inner - jnp.where(highest, 0, below) - jnp.where(lowest, 0, above))


class Categorical(NamedTuple):
    """Independent levels k / 255 with P(k) = softmax(logits)_k; logits are (batch, *event, 256)."""

    logits: Array

    @property
    def mean(self) -> Event:
        """Return Σ_k k / 255 P(k)."""
        levels = jnp.arange(LEVELS, dtype=self.logits.dtype) / (LEVELS - 1)
        return jax.nn.softmax(self.logits) @ levels

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw levels k / 255."""
        return jax.random.categorical(key, self.logits).astype(self.logits.dtype) / (LEVELS - 1)

    def log_prob(self, x: Event) -> PerExample:
        """Return Σ log P(k) in nats for x = k / 255 (the nearest level)."""
        level = jnp.clip(jnp.round(x * (LEVELS - 1)), 0, LEVELS - 1).astype(jnp.int32)
        chosen = jnp.take_along_axis(self.logits, level[..., None], axis=-1)[..., 0]
        return sum_event(chosen - jax.nn.logsumexp(self.logits, axis=-1))

    def kl(self, other: "Categorical") -> PerExample:
        """Return Σ Σ_k P(k) (log P(k) - log P'(k)), nats."""
        log_p, log_q = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(other.logits)
        return sum_event(jnp.exp(log_p) * (log_p - log_q))

    def entropy(self) -> PerExample:
        """Return -Σ Σ_k P(k) log P(k), nats."""
        log_p = jax.nn.log_softmax(self.logits)
        return sum_event(-jnp.exp(log_p) * log_p)


Distribution = Normal | OptimalNormal | Laplace | Bernoulli | ContinuousBernoulli | DiscretizedLogistic | Categorical
