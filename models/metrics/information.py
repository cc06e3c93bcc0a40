"""What a code says of an example, in nats: rate and distortion, per dimension and level, and what the rate is made of.

Averaged over examples the rate E KL(q(z|x) || p(z)) splits into I(x; z) + KL(q(z) || p(z)), q(z) the mean posterior
of all examples; and, with independent units in p, KL(q(z) || p(z)) into the total correlation and Σ_j KL(q(z_j) ||
p(z_j)) (Hoffman & Johnson 2016; Chen et al. 2018, equation 2).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from models.autoencoder import Autoencoder
from models.batch import Batch
from models.codes import draw
from models.config import ConfigError
from models.distributions import LOG_2PI, Normal
from models.metrics.basic import per_dimension, per_example
from models.metrics.estimates import Measured, groups_of, jackknife, mean_of, spread
from models.metrics.subject import Subject
from models.terms.total_correlation import stratified

ACTIVE = 0.01  # variance of a posterior mean above which a unit is active (Burda et al. 2016, section 5)
PAIRS = 1 << 22  # numbers of one block of pairs
DIGITS = 16  # deviation of a posterior, in last digits of its mean, below which draws are rounded too far
BATCH = 64  # of the stratified estimate


def errors(subject: Subject) -> dict[str, Measured]:
    """Return the means of `per_example`, with `active_units` where the code has a density."""
    rows = subject.each(per_example, "errors")
    units = {"mse": "scaled units squared", "mae": "scaled units", "wrong_symbols": "share", "accuracy": "share"}
    units["symbols"] = "symbols"
    name_unit = lambda name: units.get(name, "bits per value" if name.endswith("bits_per_dim") else "nats")
    return {name: mean_of(values, name_unit(name)) for name, values in rows.items()}


def rate_distortion(subject: Subject) -> dict[str, Measured]:
    """Return rate_nats = E KL(q(z|x) || p(z)) and distortion_nats = E -log p(x|z) (Alemi et al. 2018)."""
    rows = subject.each(per_example, "rate_distortion")
    distortion = rows["nll_nats"] if "nll_nats" in rows else rows["cross_entropy_nats"]
    return {"rate_nats": mean_of(rows["kl_nats"], "nats"), "distortion_nats": mean_of(distortion, "nats")}


def kl(subject: Subject) -> dict[str, Measured]:
    """Return kl_per_dim_nats where KL splits over dimensions, and kl_level_L_nats: of every level of a hierarchy given
    those above it, level 1 on top. A code without levels is one level.
    """
    rows = subject.each(per_dimension, "kl")["kl"]
    levels: Any = getattr(subject.model.posterior_module, "levels", None)
    groups = getattr(levels, "groups", None)
    if rows.shape[1] != subject.model.latent:
        return {"kl_nats" if groups else "kl_level_1_nats": mean_of(rows.sum(1), "nats")}
    groups = groups or (subject.model.latent,)
    parts = [rows[:, end - width : end] for end, width in zip(np.cumsum(groups), groups, strict=True)]
    by_level = {f"kl_level_{i}_nats": mean_of(part.sum(1), "nats") for i, part in enumerate(parts, 1)}
    return {"kl_per_dim_nats": mean_of(rows, "nats")} | by_level


def active_units(subject: Subject) -> dict[str, Measured]:
    """Return how many units have a posterior mean whose variance over examples is above 0.01."""
    count = lambda index: (subject.codes[index].var(0) > ACTIVE).sum()
    return {"active_units": jackknife(count, subject.test.size, "units")}


def aggregate(subject: Subject) -> dict[str, Measured]:
    """Return what the rate is made of, q(z) the mean posterior of all the examples at hand (none left out).

    mutual_information_nats: E log q(z|x) - log q(z), at most log n. aggregate_kl_nats: KL(q(z) || p(z)). Of
    independent normals also total_correlation_nats: KL(q(z) || Π_j q(z_j)), and, where the prior is normal too,
    dimension_kl_nats: Σ_j KL(q(z_j) || p(z_j)). One draw z of every q(z|x), against all n posteriors: n² densities,
    exact in q. Standard errors by the jackknife over examples, as draws and as parts of q(z). Raises ConfigError where
    a posterior is so narrow that float32 cannot hold its draws: densities of them would be those of rounding.
    """
    n = subject.test.size
    drawn = subject.each(_draws, "aggregate")
    if "digits" in drawn and drawn["digits"].min() < DIGITS:
        raise ConfigError("posteriors are narrower than their means' last digits: scale the data, or train longer")
    parts = groups_of(n)
    joint, units = _sums_of_groups(subject, parts, drawn["z"])

    def numbers(keep: np.ndarray, which: list[int]) -> dict[str, float]:
        left = sum(len(parts[g]) for g in which)
        log_q = _logsumexp(joint[which][:, keep]) - np.log(left)
        out = {
            "mutual_information_nats": (drawn["log_q"][keep] - log_q).mean(),
            "aggregate_kl_nats": (log_q - drawn["log_p"][keep]).mean(),
        }
        if units is not None:
            single = _logsumexp(units[which][:, keep]) - np.log(left)
            out["total_correlation_nats"] = (log_q - single.sum(1)).mean()
            if "log_p_units" in drawn:
                out["dimension_kl_nats"] = (single - drawn["log_p_units"][keep]).sum(1).mean()
        return out

    every = list(range(len(parts)))
    whole = numbers(np.arange(n), every)
    without = [
        numbers(np.concatenate([parts[h] for h in every if h != g]), [h for h in every if h != g]) for g in every
    ]
    return {k: Measured(float(v), "nats", spread([one[k] for one in without])) for k, v in whole.items()}


def minibatch(subject: Subject) -> dict[str, Measured]:
    """Return mutual information and total correlation from batches of 64 with stratified weights: what training sees.

    Biased, and more so the more examples there are (see `models.terms.TotalCorrelation`): beside `aggregate` it says
    by how much. The last, incomplete batch is left out; standard errors over batches.
    """
    n, size = subject.test.size, min(BATCH, subject.test.size)
    order = np.random.default_rng(0).permutation(n)[: n // size * size]
    shuffled = subject.test._replace(batch=jax.tree.map(lambda a: np.asarray(a)[order], subject.test.batch))

    def estimates(model: Autoencoder, batch: Batch, key: PRNGKeyArray) -> dict[str, Array]:
        q = model.encode(model.sees(batch), None, model.seen_label(batch))
        z, log_q = draw(q, key)
        weight = stratified(size, n)
        joint, each = log_pairs(q, z)
        log_joint = jax.nn.logsumexp(joint + weight, axis=1)
        out = {"stratified_mutual_information_nats": log_q - log_joint}
        if each is not None:
            single = jax.nn.logsumexp(each + weight[..., None], axis=1)
            out["stratified_total_correlation_nats"] = log_joint - jnp.sum(single, axis=1)
        return out

    rows = subject.each(estimates, "minibatch", shuffled, size)
    return {name: mean_of(value.reshape(-1, size).mean(1), "nats") for name, value in rows.items()}


def log_pairs(q: Any, z: Float[Array, "codes latent"]) -> tuple[Float[Array, "codes batch"], Any]:
    """Return log q(z_i | x_j), nats, and of independent normals log q(z_ik | x_j) (codes, batch, latent), or None."""
    if isinstance(q, Normal):
        gap = (z[:, None] - q.mean[None]) * jnp.exp(-q.log_std[None])
        each = -0.5 * (gap * gap + LOG_2PI) - q.log_std[None]
        return jnp.sum(each, axis=2), each
    batch = q.mean.shape[0]
    return jax.vmap(lambda one: q.log_prob(jnp.broadcast_to(one[None], (batch, one.size))))(z), None


def _draws(model: Autoencoder, batch: Batch, key: PRNGKeyArray) -> dict[str, Array]:
    q = model.encode(model.sees(batch), None, model.seen_label(batch))
    z, log_q = draw(q, key)
    prior = model.prior(None, jax.random.fold_in(key, 1))
    out = {"z": z, "log_q": log_q, "log_p": prior.log_prob(z)}
    if isinstance(q, Normal):
        last = jnp.finfo(q.mean.dtype).eps * jnp.maximum(jnp.abs(q.mean), jnp.finfo(q.mean.dtype).tiny)
        out["digits"] = jnp.min(jnp.exp(q.log_std) / last, axis=1)
    if isinstance(prior, Normal):
        gap = (z - prior.mean) * jnp.exp(-prior.log_std)
        out["log_p_units"] = -0.5 * (gap * gap + LOG_2PI) - prior.log_std
    return out


def _sums_of_groups(subject: Subject, parts: list[np.ndarray], z: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return log Σ_j q(z_i|x_j) over each group's examples j, (groups, n), and of single units (groups, n, latent)."""
    width = max(map(len, parts))
    joint, units = [], []
    for part in parts:
        index = np.resize(part, width)  # filled up, then not counted
        some = jax.tree.map(lambda a, index=index: jnp.asarray(np.asarray(a)[index]), subject.test.batch)
        found = jax.device_get(_sums(subject.model, some, np.arange(width) < len(part), jnp.asarray(z)))
        joint.append(np.asarray(found[0], np.float64))
        units.append(found[1])
    return np.stack(joint), None if units[0] is None else np.stack(units).astype(np.float64)


@functools.partial(jax.jit)
def _sums(model: Autoencoder, batch: Batch, counted: Array, z: Array) -> Any:
    q = model.encode(model.sees(batch), None, model.seen_label(batch))
    n, latent = z.shape
    block = max(1, min(n, PAIRS // (len(batch.x) * latent)))
    count = -(-n // block)
    padded = jnp.pad(z, ((0, count * block - n), (0, 0))).reshape(count, block, latent)
    out = jnp.where(counted, 0, -jnp.inf).astype(z.dtype)

    def one_block(some: Array) -> Any:
        joint, each = log_pairs(q, some)
        single = None if each is None else jax.nn.logsumexp(each + out[None, :, None], axis=1)
        return jax.nn.logsumexp(joint + out[None], axis=1), single

    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:n], jax.lax.map(one_block, padded))


def _logsumexp(values: np.ndarray) -> np.ndarray:
    top = values.max(0)
    return top + np.log(np.exp(values - top).sum(0))
