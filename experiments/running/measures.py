"""What a table measures of a trained model beside the metrics of every run.

    measure(config, model, examples, key) -> {name_unit: number}

Each is a named tuple of plain values: it identifies a run, and may be called inside a program that is compiled. What
needs the host gives arrays, (examples, ...) by name, and has `finish(arrays, seed) -> numbers`, see `finished`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from models import metrics
from models.autoencoder import Autoencoder
from models.batch import Batch, as_batch
from models.config import ConfigError
from models.metrics.geometry import card_of, rows_of
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


class LevelKl(NamedTuple):
    """kl_level_L_nats: the KL of every level of a hierarchy given those above it, level 1 on top.

    A code without levels is one level.
    """

    def __call__(self, config: Any, model: Autoencoder, examples: Examples, key: Key[Array, ""]) -> Numbers:
        """Return the numbers."""
        kl = means(config, examples, key, lambda batch, key: metrics.per_dimension(model, batch, key))["kl"]
        levels = getattr(model.posterior_module, "levels", None)
        groups = (model.latent,) if levels is None else levels.groups
        if len(kl) != model.latent:
            raise ConfigError("the KL of this posterior and prior is one number: there are no levels to tell apart")
        ends = [sum(groups[: i + 1]) for i in range(len(groups))]
        parts = [kl[end - width : end] for end, width in zip(ends, groups, strict=True)]
        return {f"kl_level_{i}_nats": jnp.sum(part) for i, part in enumerate(parts, 1)}


class CodeUse(NamedTuple):
    """How discrete codes are used, and what is decoded from the exact ones.

    coded_squared_error: of the mean decoded from the likeliest entries, summed over values. rate_bits: of a code that
    gives every entry alike. entropy_bits: Σ over places of the entropy of the entries used there, the rate of
    an ideal code for each place by itself. perplexity: 2 ** (entropy_bits / places). used_percent: of all entries, the
    share that occurs.
    """

    def __call__(self, config: Any, model: Autoencoder, examples: Examples, key: Key[Array, ""]) -> Numbers:
        """Return the numbers. Raises ConfigError for codes that are no choice among entries."""
        book: Any = model.posterior_module
        if not hasattr(book, "lookup"):
            raise ConfigError("use and entropy are those of discrete codes: use posterior vq, fsq or gumbel")

        def of(batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
            label = model.seen_label(batch)
            q = model.encode(batch.x, None, label)
            indices = jnp.argmax(q.logits, axis=-1) if hasattr(q, "logits") else q.indices
            mean = model.decode(book.lookup(indices), None, label).mean
            error = jnp.sum(jnp.square(batch.x - mean).reshape(batch.size, -1), axis=1)
            return {"coded_squared_error": error, "use": jax.nn.one_hot(indices, book.size)}

        found = means(config, examples, key, of)
        use = found.pop("use")  # (places, size), each row a distribution
        entropy = jnp.sum(jax.scipy.special.entr(use)) / jnp.log(2.0)
        return found | {
            "rate_bits": book.places * jnp.log2(float(book.size)),
            "entropy_bits": entropy,
            "perplexity": jnp.exp2(entropy / book.places),
            "used_percent": 100 * jnp.mean(use > 0),
        }


class Geometry(NamedTuple):
    """The numbers of the report card (`metrics.report_card`) of the first test examples; its lists are left out.

    What no example has (the volume of a singular metric) is left out as well, and singular_share stands beside it.
    """

    examples: int = 256
    """how many are measured"""

    @property
    def columns(self) -> tuple[str, ...]:
        """What a table shows of it."""
        halves = ("encoder_jacobian_squared", "decoder_jacobian_squared")
        return (*halves, "orthogonality_distance", "metric_condition_median", "log_volume_gap_nats")

    def __call__(self, config: Any, model: Autoencoder, examples: Examples, key: Key[Array, ""]) -> dict[str, Array]:
        """Return the rows that the card needs, (examples, ...) each. Raises ConfigError as `report_card`."""
        n = min(self.examples, len(examples))
        chunk = min(n, CARD)
        k_binary, k_pairs = jax.random.split(key)

        def one_batch(i: Array) -> dict[str, Array]:
            some = examples.batch((i * chunk + jnp.arange(chunk)) % n)
            some = some._replace(x=binarise(some.x, config.binarise, jax.random.fold_in(k_binary, i)))
            return rows_of(model, as_batch(some), k_pairs)

        rows = jax.lax.map(one_batch, jnp.arange(-(-n // chunk)))
        return {name: a.reshape(-1, *a.shape[2:])[:n] for name, a in rows.items()}

    def finish(self, rows: Mapping[str, np.ndarray], seed: int) -> dict[str, float]:
        """Return the card's numbers; of Jacobians that are not finite one number, nan, which ends the run as such."""
        try:
            card = card_of(dict(rows), seed)
        except ValueError:
            return {"decoder_jacobian_squared": float("nan")}
        card["geometry_active_units"] = card.pop("active_units")  # the test metric of that name is of all examples
        card.pop("examples")
        return {name: v for name, v in card.items() if isinstance(v, float) and np.isfinite(v)}


CARD = 64  # examples whose Jacobians are held together


def finished(measures: tuple[Any, ...], arrays: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that measures make on the host of the arrays, by position, that they left in a program."""
    out: dict[str, float] = {}
    for position, rows in arrays.items():
        out |= measures[int(position)].finish(rows, int(position))
    return out
