"""What a trained model is judged by: per example, in evaluation mode, units in the names."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.autoencoder import Autoencoder
from models.distributions import Normal

PerExample = Float[Array, " batch"]


def per_example(model: Autoencoder, x: Float[Array, "batch *shape"], key: PRNGKeyArray) -> dict[str, PerExample]:
    """Return the metrics of each example, without dropout and with the running batch statistics.

    mse, mae: mean over the example's values of (x - x')² and |x - x'|, x' = mean of p(x|z) at the mean code.
    nll_nats: -log p(x|z). With a normal posterior z is one draw from it, and there are kl_nats (analytic),
    negative_elbo_nats = nll + kl (beta = 1) and bits_per_dim = negative_elbo / (values * log 2). For a
    density (normal, Laplace, continuous Bernoulli) nll is that of x in its own units and may be negative.
    """
    q = model.encode(x)
    p = model.decode(q.mean)
    values = tuple(range(1, x.ndim))
    gap = x - p.mean
    out = {"mse": jnp.mean(gap * gap, values), "mae": jnp.mean(jnp.abs(gap), values)}
    if not isinstance(q, Normal):
        return {"nll_nats": -p.log_prob(x)} | out
    nll, kl = -model.decode(q.sample(key)).log_prob(x), q.kl(model.prior())
    bound = nll + kl
    bits = bound / (model.dimensions * math.log(2))
    return {"negative_elbo_nats": bound, "nll_nats": nll, "kl_nats": kl, "bits_per_dim": bits} | out


def per_dimension(model: Autoencoder, x: Float[Array, "batch *shape"]) -> dict[str, Float[Array, "batch latent"]]:
    """Return what a variational model's code says dimension by dimension: `mean`, and its `kl` to the prior in nats.

    Empty for a model without a density over codes.
    """
    q = model.encode(x)
    return {"mean": q.mean, "kl": q.kl_terms(model.prior())} if isinstance(q, Normal) else {}


def summarize(sums: Mapping[str, Any], count: float | int) -> dict[str, float]:
    """Return the mean of every metric from its sum over `count` examples, and rmse = sqrt(mean mse).

    Raises ValueError without an example.
    """
    if count <= 0:
        raise ValueError(f"metrics need at least one example, got {count}")
    means = {name: float(total) / float(count) for name, total in sums.items()}
    if "mse" in means:
        means["rmse"] = math.sqrt(means["mse"])
    return means
