"""Independent normals, with a scale of their own or the best one for the batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.distributions.event import Event, Mask, PerExample, sum_event

LOG_2PI = 1.8378770664093453


class Normal(NamedTuple):
    """Independent normals; `log_std` has the shape of `mean` or is one shared number."""

    mean: Array
    log_std: Array

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw mean + std ε with ε ~ N(0, 1): the reparameterisation (Kingma & Welling 2014, section 2.4)."""
        # made once: XLA's CPU backend else inverts the error function again for every use of the draw
        noise = jax.lax.optimization_barrier(jax.random.normal(key, self.mean.shape, self.mean.dtype))
        return self.mean + jnp.exp(self.log_std) * noise

    def log_terms(self, x: Event) -> Event:
        """Return what `log_prob` sums, nats."""
        z = (x - self.mean) * jnp.exp(-self.log_std)
        return -0.5 * z * z - (self.log_std + 0.5 * LOG_2PI)

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return Σ -((x - mean) / std)² / 2 - log std - log(2π) / 2, nats."""
        return sum_event(self.log_terms(x), mask)

    def closed(self, other: object) -> bool:
        """Whether `kl_terms(other)` has a formula."""
        return isinstance(other, Normal)

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

    def variance(self, x: Event, mask: Mask = None) -> Float[Array, ""]:
        """Return the batch's mean squared error over what was observed, at least 1e-12."""
        square = jnp.square(x - self.mean)
        mean = jnp.mean(square) if mask is None else jnp.sum(jnp.where(mask, square, 0)) / jnp.maximum(jnp.sum(mask), 1)
        return jnp.maximum(mean, 1e-12)

    def log_prob(self, x: Event, mask: Mask = None) -> PerExample:
        """Return log N(x; mean, σ²), nats, σ² the batch's; its gradient in σ is zero at the optimum."""
        return Normal(self.mean, 0.5 * jnp.log(self.variance(x, mask))).log_prob(x, mask)

    def sample(self, key: PRNGKeyArray) -> Event:
        """Draw with the running scale `log_std`."""
        return Normal(self.mean, self.log_std).sample(key)
