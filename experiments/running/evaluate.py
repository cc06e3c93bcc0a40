"""What a run is measured by beyond the metrics of its splits: active units, reconstructions of test examples."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

import train
from models.autoencoder import Autoencoder
from models.codes import has_density
from training.examples import Examples, binarise

PICTURES = 10  # test examples whose reconstructions a run returns
ACTIVE = 0.01  # variance of a code's posterior mean above which Burda et al. 2016, section 5, call it active


def outputs(
    config: train.Config, state: train.TrainState, examples: Examples, key: Key[Array, ""]
) -> tuple[dict[str, Array], Array]:
    """Return {"active_units": count} of a variational model, and reconstructions of the first test examples.

    A unit is active when the variance of its posterior mean over the examples exceeds 0.01.
    """
    model = train.trained_model(config, state)
    k_binary, _ = jax.random.split(jax.random.fold_in(key, 0))
    first = examples.batch(jnp.arange(min(PICTURES, len(examples))))
    first = first._replace(x=binarise(first.x, config.binarise, k_binary))
    label = model.seen_label(first)
    q = model.encode(first.x, None, label)
    pictures = model.decode(q.mean, None, label).mean
    if not has_density(q):
        return {}, pictures
    variances = code_variances(config, model, examples, key)
    return {"active_units": jnp.sum(variances > ACTIVE).astype(variances.dtype)}, pictures


def code_variances(config: train.Config, model: Autoencoder, examples: Examples, key: Key[Array, ""]) -> Array:
    """Return the variance over the examples of each code's posterior mean, (latent,)."""
    n, batch = len(examples), min(len(examples), 512)

    def one_batch(i: Array) -> Array:
        index = i * batch + jnp.arange(batch)
        k_binary, _ = jax.random.split(jax.random.fold_in(key, i))
        some = examples.batch(jnp.minimum(index, n - 1))
        some = some._replace(x=binarise(some.x, config.binarise, k_binary))
        return model.encode(some.x, None, model.seen_label(some)).mean

    means = jax.lax.map(one_batch, jnp.arange(-(-n // batch))).reshape(-1, model.latent)[:n]
    return jnp.var(means, axis=0)
