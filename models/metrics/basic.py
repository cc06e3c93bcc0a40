"""What every model is judged by: errors, and the bound where the posterior has a density."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.autoencoder import Autoencoder
from models.batch import Batch, as_batch
from models.codes import draw, has_density, kl_terms
from models.distributions import Sequence, sum_event, unit_of
from models.networks.nothing import NoEncoder

PerExample = Float[Array, " batch"]


def per_example(model: Autoencoder, batch: Batch | Any, key: PRNGKeyArray) -> dict[str, PerExample]:
    """Return the metrics of each example, without dropout and with the running batch statistics.

    mse, mae: mean over the example's observed values of (x - x')² and |x - x'|, x' = mean of p(x|z) at the mean code.
    nll_nats: -log p(x|z). With a posterior that has a density z is one draw from it, and there are kl_nats (closed
    where it can be), negative_elbo_nats = nll + kl (beta = 1) and bits_per_dim = negative_elbo / (values * log 2): bits
    of a code for discrete data. For a density (normal, Laplace, continuous Bernoulli) nll is that of x in its own units
    and may be negative, and its bits are called density_bits_per_dim: they compare with no discrete data's. The
    cross-entropy of grey values bounds nothing: there are cross_entropy_nats and penalised_cross_entropy_nats, with kl,
    in place of nll and negative ELBO, and no bits. Symbols have no distance: wrong_symbols, the fraction, is the error.
    Of sequences that end, symbols is their number with the end, padding counts nowhere, and the error is that of
    symbols written freely, each fed to the next.
    accuracy: of the inferred label, where labels are inferred; the label that the rest sees is the inferred one.
    A model without an encoder has none of these: its dict is empty.
    """
    if isinstance(model.encoder, NoEncoder):
        return {}
    batch = as_batch(batch)
    label = batch.label
    out: dict[str, Any] = {}
    if model.labels == "inferred":
        label = model.seen_label(batch)
        out = {"accuracy": (label == batch.label).astype(float)} if batch.label is not None else {}
    q = model.encode(model.sees(batch), None, label)
    x, _, mask = model.target(batch)
    p = model.decode(q.mean, None, label)
    unit = unit_of(p)
    mask = p.observed(x, mask) if hasattr(p, "observed") else mask  # a text counts up to its end
    count: Any = float(model.dimensions) if mask is None else jnp.maximum(sum_event(mask.astype(float)), 1)
    out |= errors(p, x, mask, count)
    out |= {"symbols": count} if getattr(p, "ends", False) else {}
    nll_name = "cross_entropy_nats" if unit == "cross_entropy" else "nll_nats"
    if not has_density(q):
        return {nll_name: -p.log_prob(x, mask)} | out
    z, log_q = draw(q, key)
    nll = -model.decode(z, None, label).log_prob(x, mask)
    kl = sum_event(kl_terms(q, model.prior(label, jax.random.fold_in(key, 1)), z, log_q))
    bound = nll + kl
    if unit == "cross_entropy":
        return {"penalised_cross_entropy_nats": bound, nll_name: nll, "kl_nats": kl} | out
    bits = {("bits_per_dim" if unit == "bits" else "density_bits_per_dim"): bound / (count * math.log(2))}
    return {"negative_elbo_nats": bound, nll_name: nll, "kl_nats": kl} | bits | out


def errors(p: Any, x: Array, mask: Any, count: Any) -> dict[str, PerExample]:
    """Return mse and mae of a distribution's mean over an example's observed values; of symbols the fraction wrong.

    Moves of a pen in turn have none: each is fed to the next, so that what is drawn alike lies elsewhere.
    """
    if isinstance(p, Sequence) and not p.symbolic:
        return {}
    gap = x - p.mean
    if getattr(p, "symbolic", False):
        return {"wrong_symbols": _mean((gap != 0).astype(float), mask, count)}
    return {"mse": _mean(gap * gap, mask, count), "mae": _mean(jnp.abs(gap), mask, count)}


def squared_error(batch: Batch, answer: Array) -> PerExample:
    """Return the mean of (x - answer)² over an example's observed values, as `mse` is."""
    gap = batch.x - answer
    count: Any = 1.0 if batch.mask is None else jnp.maximum(sum_event(batch.mask.astype(float)), 1)
    return _mean(gap * gap, batch.mask, count)


def per_dimension(model: Autoencoder, batch: Batch | Any, key: PRNGKeyArray) -> dict[str, Float[Array, "batch k"]]:
    """Return what a variational model's code says dimension by dimension: its `mean`, and its `kl` to the prior, nats.

    The KL is one number where it has no closed form. Empty for a model without an encoder or a density over codes.
    """
    if isinstance(model.encoder, NoEncoder):
        return {}
    batch = as_batch(batch)
    label = model.seen_label(batch)
    q = model.encode(model.sees(batch), None, label)
    if not has_density(q):
        return {}
    z, log_q = draw(q, key)
    return {"mean": q.mean, "kl": kl_terms(q, model.prior(label, jax.random.fold_in(key, 1)), z, log_q)}


def _mean(values: Array, mask: Any, count: Any) -> PerExample:
    return jnp.mean(values, tuple(range(1, values.ndim))) if mask is None else sum_event(values, mask) / count


def summarize(sums: Mapping[str, Any], count: float | int) -> dict[str, float]:
    """Return the mean of every metric from its sum over `count` examples, and rmse = sqrt(mean mse).

    Of sequences also the perplexity exp(Σ nats / Σ symbols) of a symbol, by the bound where there is one.
    Raises ValueError without an example.
    """
    if count <= 0:
        raise ValueError(f"metrics need at least one example, got {count}")
    means = {name: float(total) / float(count) for name, total in sums.items()}
    if "mse" in means:
        means["rmse"] = math.sqrt(means["mse"])
    return means | {name: float(value) for name, value in perplexity(means).items()}


def perplexity(means: Mapping[str, Any]) -> dict[str, Any]:
    """Return exp(nats / symbols), by the bound where there is one: of what are symbols that end, else nothing."""
    if "symbols" not in means:
        return {}
    return {"perplexity": jnp.exp(means.get("negative_elbo_nats", means.get("nll_nats")) / means["symbols"])}
