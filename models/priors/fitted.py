"""Priors fitted to the codes of a trained model, and put in the place of its own.

mixture   full covariances by EM (Ghosh et al. 2020, section 4; scikit-learn)
kernel    a normal on every code, its deviations by Scott's rule
flow      couplings pushed from a normal, by maximum likelihood
vae       a second VAE over the codes (Dai & Wipf 2019), by its bound
"""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.batch import Sizes
from models.config import ConfigError
from models.priors.deeper import DeeperPrior
from models.priors.flow import FlowPrior
from models.priors.mixture import FullNormals, MixturePrior, Normals

FittedKind = Literal["mixture", "kernel", "flow", "vae"]
Codes = Float[Array | np.ndarray, "n latent"]
LEAST = 10  # codes for each unit, where a network is fitted to them
BATCH, RATE = 256, 2e-3


def fit_prior(
    how: FittedKind | str, model: Any, codes: Codes, key: PRNGKeyArray, *, components: int = 10, steps: int = 2000
) -> tuple[Any, Any]:
    """Return (config, module) of a prior fitted to codes; `with_prior_module(model, module)` puts it in place.

    A model that is built with the config has a prior of the module's structure. components: of a mixture. steps: Adam
    steps of a flow or a second VAE. Raises ConfigError for an unknown kind, discrete codes, codes of another length or
    that are not finite, and for too few of them.
    """
    codes = np.asarray(codes, np.float64)
    _check(how, model, codes, components)
    if how == "mixture":
        return _mixture(codes, components, int(jax.random.randint(key, (), 0, 2**31 - 1)))
    if how == "kernel":
        return _kernel(codes)
    cfg = FlowPrior(base="free") if how == "flow" else DeeperPrior(units=codes.shape[1])
    k_build, k_fit = jax.random.split(key)
    module = cfg.build(codes.shape[1], Sizes(model.shape), nnx.Rngs(k_build))
    _standardised(module, codes)
    return cfg, _by_gradient(module, model, jnp.asarray(codes, float), k_fit, steps)


def with_prior_module(model: Any, module: Any) -> Any:
    """Return a copy of the model with another prior."""
    graph, state = nnx.split(model)
    out = nnx.merge(graph, state, copy=True)
    out.prior_module = module
    return out


def _check(how: str, model: Any, codes: np.ndarray, components: int) -> None:
    if how not in get_args(FittedKind):
        raise ConfigError(f"a fitted prior is {', '.join(get_args(FittedKind))}; got {how!r}")
    if hasattr(model.posterior_module, "lookup"):
        raise ConfigError("codes of vq, fsq and gumbel are discrete: train with prior autoregressive instead")
    if codes.ndim != 2 or codes.shape[1] != model.latent or not np.isfinite(codes).all():
        raise ConfigError(f"codes must be finite, of shape (n, {model.latent}), got shape {codes.shape}")
    latent = codes.shape[1]
    if how == "mixture":
        needed, what = max(components, 1) * (latent + 1), f"a mixture of {components} normals"
    elif how == "kernel":
        needed, what = latent + 1, "a kernel density"
    else:
        needed, what = LEAST * latent, "a flow" if how == "flow" else "a second VAE"
    if components < 1 or len(codes) < needed:
        fewer = "" if needed <= latent + 1 else ", or fewer components" if how == "mixture" else ", or prior mixture"
        raise ConfigError(
            f"{what} in {latent} dimensions needs at least {needed} examples, got {len(codes)}; give more{fewer}"
        )


def _mixture(codes: np.ndarray, components: int, seed: int) -> tuple[MixturePrior, FullNormals]:
    from sklearn.mixture import GaussianMixture

    found = GaussianMixture(components, random_state=seed).fit(codes)
    tril = np.linalg.cholesky(found.covariances_)
    at = np.arange(codes.shape[1])
    tril[:, at, at] = np.log(tril[:, at, at])
    parts = (jnp.asarray(a, float) for a in (found.means_, tril, np.log(found.weights_)))
    return MixturePrior(components=components, covariance="full"), FullNormals(*parts)


def _kernel(codes: np.ndarray) -> tuple[MixturePrior, Normals]:
    n, latent = codes.shape
    width = _spread(codes) * n ** (-1 / (latent + 4))  # Scott 1992: for each unit its own deviation
    log_std = np.broadcast_to(np.log(width), codes.shape)
    return MixturePrior(components=n), Normals(*(jnp.asarray(a, float) for a in (codes, log_std, np.zeros(n))))


def _spread(codes: np.ndarray) -> np.ndarray:
    """Return the deviation of every unit; of one that never moves a small share of the others', or 1e-6."""
    std = codes.std(0)
    return np.maximum(std, 1e-3 * std.max() or 1e-6)


def _standardised(module: Any, codes: np.ndarray) -> None:
    """Let a module begin at the codes' own means and deviations: its networks see, or push, standard ones."""
    mean, std = (jnp.asarray(a, float) for a in (codes.mean(0), _spread(codes)))
    if hasattr(module, "base"):
        module.base[...] = jnp.stack([mean, jnp.log(std)])
        return
    first, last = module.encoder.layers[0], module.decoder.layers[-1]
    kernel = first.kernel[...] / std[:, None]
    first.kernel[...], first.bias[...] = kernel, first.bias[...] - mean @ kernel
    last.bias[...] = jnp.concatenate([mean, jnp.log(std)])
    last.kernel[...] = last.kernel[...] * jnp.concatenate([std, jnp.ones_like(std)])[None]


def _by_gradient(module: Any, model: Any, codes: Array, key: PRNGKeyArray, steps: int) -> Any:
    """Return the module after Adam steps on -log p of batches of codes, at a rate that falls to 0."""
    graph, start, rest = nnx.split(module, nnx.Param, ...)
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))
    batch = min(BATCH, len(codes))

    def loss(params: Any, key: PRNGKeyArray) -> Array:
        k_pick, k_prior = jax.random.split(key)
        some = codes[jax.random.randint(k_pick, (batch,), 0, len(codes))]
        return -jnp.mean(nnx.merge(graph, params, rest, copy=True)(model, None, k_prior).log_prob(some))

    @jax.jit
    def run(params: Any) -> Any:
        def step(i: Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            params, state = carry
            slope = jax.grad(loss)(params, jax.random.fold_in(key, i))
            updates, state = optimizer.update(slope, state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, steps, step, (params, optimizer.init(params)))[0]

    params = run(start)
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params)):
        raise ConfigError("the prior diverged while it was fitted: the codes spread too far; use prior mixture")
    return nnx.merge(graph, params, rest, copy=True)
