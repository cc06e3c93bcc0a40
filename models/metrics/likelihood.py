"""The likelihood of examples by importance sampling."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.autoencoder import Autoencoder
from models.batch import Batch, as_batch
from models.codes import weigher
from models.config import ConfigError


def log_likelihood(
    model: Autoencoder, batch: Batch | Any, key: PRNGKeyArray, samples: int = 1000, chunk: int = 50
) -> Float[Array, " batch"]:
    """Return log 1/k Σ_i p(x, z_i) / q(z_i|x) of each example, z_i ~ q(z|x), nats: a bound that rises with k = samples.

    One scan over chunks of draws: `chunk` of them are in memory at once, whatever k is; the last chunk is masked.
    Every posterior with a density is right, a hierarchy too: the draws of all levels are one weight (Burda et al.
    2016, equation 8). Raises ConfigError for a posterior without a density and for fewer than one draw.
    """
    if samples < 1 or chunk < 1:
        raise ConfigError(f"samples and chunk must be at least 1, got {samples} and {chunk}")
    batch = as_batch(batch)
    batch = batch._replace(label=model.seen_label(batch))
    chunk = min(chunk, samples)

    def part(total: Array, number: Array) -> tuple[Array, None]:
        _, z, log_q, weigh = weigher(model, batch, jax.random.fold_in(key, number), chunk, training=False)
        drawn = number * chunk + jnp.arange(chunk) < samples
        log_w = jnp.where(drawn[:, None], weigh(z, log_q), -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(log_w, axis=0)), None

    start = jnp.full(batch.size, -jnp.inf)
    total, _ = jax.lax.scan(part, start, jnp.arange(-(-samples // chunk)))
    return total - jnp.log(float(samples))
