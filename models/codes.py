"""What completes the protocol of distributions over codes z (batch, latent): draws with their density, and KL."""

from typing import Any

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from models.batch import Batch, as_batch, repeated
from models.config import ConfigError
from models.distributions import Bernoulli, sum_event


def draw(q: Any, key: PRNGKeyArray) -> tuple[Array, Any]:
    """Return z ~ q and log q(z), nats, None where q has no density (a point).

    By `q.sample_and_log_prob(key)` where there is one: in a flow that is cheaper, or the only way.
    """
    if hasattr(q, "sample_and_log_prob"):
        return q.sample_and_log_prob(key)
    z = q.sample(key)
    return z, q.log_prob(z) if has_density(q) else None


def has_density(q: Any) -> bool:
    """Whether a bound on log p(x) can be had through q."""
    return hasattr(q, "log_prob") or hasattr(q, "sample_and_log_prob")


PARTS = {
    "flowed": "flow", "fullnormal": "full", "lowrank": "low_rank", "trajectory": "hamiltonian", "nonetype": "none",
    "quantised": "vq or fsq", "relaxed": "gumbel", "vonmisesfisher": "vmf",
}  # fmt: skip


def posterior_name(q: Any) -> str:
    """Return what the posterior that gives such a distribution is called on the command line; "none" for no codes."""
    name = type(q).__name__.lower()
    return PARTS.get(name, name)


def kl_terms(q: Any, p: Any, z: Array, log_q: Any) -> Float[Array, "batch terms"]:
    """Return KL(q || p), nats: per dimension where there is a closed form, else log q(z) - log p(z) of the draw.

    A closed form is q's method `kl_terms(p)`, where `q.closed(p)`; of a hierarchy it is that of the conditionals,
    `given(z)`, at the draw.
    """
    q, p = (d.given(z) if hasattr(d, "given") else d for d in (q, p))
    if hasattr(q, "closed") and q.closed(p):
        return q.kl_terms(p)
    return (log_q - p.log_prob(z))[:, None]


def prior_codes(model: Any, key: PRNGKeyArray, count: int, label: Any = None) -> Float[Array, "count latent"]:
    """Return `count` draws of the prior: one per example where it depends on the label."""
    k_prior, k_draw = jax.random.split(key)
    prior = model.prior(label, k_prior)
    rows = jax.eval_shape(prior.sample, k_draw).shape[0]
    if rows == count and count > 1:
        return prior.sample(k_draw)
    return jax.vmap(lambda k: prior.sample(k)[0])(jax.random.split(k_draw, count))


def log_of_many(p: Any, x: Array, mask: Any) -> Float[Array, " batch"]:
    """Return log p(x) of many draws, nats: where values have terms of their own these are made before they are summed.

    XLA's CPU backend else makes them one at a time inside the sum over an image's axes, far more slowly.
    """
    if not hasattr(p, "log_terms"):
        return p.log_prob(x, mask)
    return sum_event(jax.lax.optimization_barrier(p.log_terms(x)), mask)


def log_of_draws(p: Any, batch: Batch, draws: int) -> Float[Array, " rows"]:
    """Return log p(x) of a batch under `draws` of its codes each, decoded together (draws * batch), nats.

    To rounding what `log_prob` of the batch repeated gives: bits take one logarithm for several values.
    """
    if isinstance(p, Bernoulli):
        return p.log_prob_of_draws(batch.x, batch.mask)
    many = repeated(batch, draws)
    return log_of_many(p, many.x, many.mask)


def weigher(model: Any, batch: Batch, key: PRNGKeyArray, samples: int, training: bool) -> tuple[Any, Any, Any, Any]:
    """Return (q, z, log_q, weigh): draws z (samples, batch, latent) and weigh(z, log_q) = log p(x, z) - log_q, nats.

    The draws lie beside the batch: one encode, and one decode of (samples * batch). Each call of `weigh` on the
    same values is the same computation, which XLA does once. Raises ConfigError for a posterior without a density.
    """
    batch = as_batch(batch)
    for_encoder = for_decoder = None
    more = jax.random.fold_in(key, 7)
    if training:
        key, for_encoder, for_decoder = jax.random.split(key, 3)
    q = model.encode(model.sees(batch), for_encoder, batch.label)
    if not has_density(q):
        raise ConfigError("a bound on log p(x) needs a posterior with a density, got a point: use posterior normal")
    z, log_q = jax.vmap(lambda k: draw(q, k))(jax.random.split(key, samples))
    many = repeated(batch, samples)

    def weigh(z: Array, log_q: Array) -> Float[Array, "samples batch"]:
        flat = z.reshape(-1, z.shape[-1])
        p = model.decode(flat, for_decoder, many.label)
        if training:
            model.track(p, many)
        # in training only of bits, whose sums have the same bits either way: earlier runs keep their parameters
        log_x = log_of_many(p, many.x, many.mask) if isinstance(p, Bernoulli) else p.log_prob(many.x, many.mask)
        log_joint = log_x + model.prior(many.label, more).log_prob(flat)
        return log_joint.reshape(samples, -1) - log_q

    return q, z, log_q, weigh
