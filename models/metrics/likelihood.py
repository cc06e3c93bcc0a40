"""log p(x) by importance sampling: many draws per example, in bounded memory."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.autoencoder import Autoencoder
from models.batch import Batch, as_batch, repeated
from models.codes import draw, has_density, log_of_draws
from models.config import ConfigError
from models.networks.nothing import NoEncoder

ROWS = 8192  # examples times draws that are drawn together, unless `chunk` says otherwise
DECODED = 2048  # of these that are decoded together: what a decoder makes of them is summed before it leaves the cache


def log_likelihood(
    model: Autoencoder, batch: Batch | Array, key: PRNGKeyArray, samples: int = 5000, chunk: int = 0
) -> dict[str, Float[Array, " batch"]]:
    """Return {"log_likelihood_nats": log mean_k w_k}, w_k = p(x, z_k) / q(z_k | x), z_k ~ q (Burda et al. 2016, eq. 8).

    A lower bound of log p(x) in expectation, growing with `samples`. Evaluation mode; the batch is encoded once, and
    draws are made `chunk` at a time (0: so many that examples times draws are at most 8,192) inside one scan and
    decoded in smaller blocks, so memory does not grow with `samples`. The weight of a hierarchy's draw holds all its
    levels. Raises ConfigError for samples below 1 and for a model whose posterior has no density.
    """
    if samples < 1:
        raise ConfigError(f"samples must be at least 1, got {samples}")
    batch = as_batch(batch)
    if isinstance(model.encoder, NoEncoder):
        raise ConfigError("a model without an encoder has no importance-weighted likelihood")
    label = model.seen_label(batch)
    batch = Batch(batch.x, label, batch.mask)
    q = model.encode(model.sees(batch), None, label)
    if not has_density(q):
        raise ConfigError("a point posterior has no density, so no likelihood: use posterior normal")
    n = len(batch.x)
    chunk = min(samples, chunk or max(1, ROWS // n))
    block = max(d for d in range(1, chunk + 1) if chunk % d == 0 and (d == 1 or d * n <= DECODED))
    label_of_block, label_of_chunk = repeated(label, block), repeated(label, chunk)

    def log_given(z: Float[Array, "block batch latent"]) -> Float[Array, "block batch"]:
        p = model.decode(z.reshape(-1, z.shape[-1]), None, label_of_block)
        return log_of_draws(p, batch, block).reshape(block, n)

    def body(total: Float[Array, " batch"], i: Array) -> tuple[Float[Array, " batch"], None]:
        k_draw, k_prior = jax.random.split(jax.random.fold_in(key, i))
        z, log_q = jax.vmap(lambda k: draw(q, k))(jax.random.split(k_draw, chunk))
        log_x = jax.lax.map(log_given, z.reshape(-1, block, *z.shape[1:])).reshape(chunk, n)
        log_prior = model.prior(label_of_chunk, k_prior).log_prob(z.reshape(-1, z.shape[-1]))
        log_w = log_x + log_prior.reshape(chunk, n) - log_q
        counted = i * chunk + jnp.arange(chunk) < samples  # the last chunk may hold more draws than were asked for
        log_w = jnp.where(counted[:, None], log_w, -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(log_w, axis=0)), None

    start = jnp.full(n, -jnp.inf, jnp.result_type(float))
    total, _ = jax.lax.scan(body, start, jnp.arange(-(-samples // chunk)))
    return {"log_likelihood_nats": total - math.log(samples)}
