"""What a table measures of a trained model beside the metrics of every run.

    measure(config, model, examples, key) -> {name_unit: number}

Each is a named tuple of plain values: it identifies a run, and may be called inside a program that is compiled. What
works on the host (`listed`) gives arrays by name in the program, and has `finish`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from models import metrics
from models.autoencoder import Autoencoder
from models.batch import Batch, as_batch
from training.examples import Examples, binarise

Numbers = dict[str, Float[Array, ""]]
BATCH = 256  # examples that are measured together


def means(
    config: Any, examples: Examples, key: Key[Array, ""], of: Callable[[Batch, Key[Array, ""]], Mapping[str, Array]]
) -> dict[str, Array]:
    """Return the means over all examples of what `of(batch, key)` gives of each, (batch, ...).

    Examples are binarised as in training; the short last batch is filled up with examples that do not count.
    """
    n, batch = len(examples), min(len(examples), BATCH)

    def one_batch(i: Array) -> dict[str, Array]:
        k_binary, k_measure = jax.random.split(jax.random.fold_in(key, i))
        index = i * batch + jnp.arange(batch)
        some = examples.batch(index % n)
        some = as_batch(some._replace(x=binarise(some.x, config.binarise, k_binary)))
        counted = lambda a: jnp.where((index < n).reshape(-1, *(1,) * (a.ndim - 1)), a, 0)
        return {name: jnp.sum(counted(value), axis=0) for name, value in of(some, k_measure).items()}

    sums = jax.lax.map(one_batch, jnp.arange(-(-n // batch)))
    return {name: jnp.sum(value, axis=0) / n for name, value in sums.items()}


class Likelihood(NamedTuple):
    """importance_nll_nats: minus the mean of log p(x) by importance sampling, see `metrics.log_likelihood`."""

    samples: int
    """draws for each example"""

    def __call__(self, config: Any, model: Autoencoder, examples: Examples, key: Key[Array, ""]) -> Numbers:
        """Return the number."""
        of = lambda batch, key: metrics.log_likelihood(model, batch, key, self.samples)
        return {"importance_nll_nats": -means(config, examples, key, of)["log_likelihood_nats"]}
