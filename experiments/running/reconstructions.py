"""What a table shows of a run beside its metrics: reconstructions of test examples."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

import train
from training.examples import Examples, binarise

PICTURES = 10  # test examples whose reconstructions a run returns


def reconstructions(config: train.Config, state: train.TrainState, examples: Examples, key: Key[Array, ""]) -> Array:
    """Return the reconstructions of the first test examples, (10, *shape)."""
    model = train.trained_model(config, state)
    k_binary, _ = jax.random.split(jax.random.fold_in(key, 0))
    first = examples.batch(jnp.arange(min(PICTURES, len(examples))))
    first = first._replace(x=binarise(first.x, config.binarise, k_binary))
    label = model.seen_label(first)
    return model.decode(model.encode(first.x, None, label).mean, None, label).mean
