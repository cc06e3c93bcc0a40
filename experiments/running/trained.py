"""A trained run for a study's rows: its model, and the numbers that the list of metrics has of it."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import train
from experiments.running import group
from experiments.running.study import Data
from models.autoencoder import Autoencoder
from models.config import ConfigError
from models.metrics import Shown, Subject, registry
from training.evaluate import trained_model
from training.examples import Examples
from training.trained import measured


def trained(config: train.Config, seed: int, data: Data) -> Autoencoder:
    """Return the model that a config's run tests.

    Configs that differ in floats or the seed alone share a compiled program; the numbers are those of the same run by
    command line. Raises ConfigError for a config that does not fit the data.
    """
    config = dataclasses.replace(config, seed=seed)
    (config,) = group.fitting([config], data.dataset) if data.dataset else (config,)
    one = jax.tree.map(lambda a: a[0], group.stack([config]))
    kept = ("train", "validation") if config.patience else ("train",)
    return trained_model(config, _state(one, {part: data.splits[part] for part in kept}))


def trained_on(config: train.Config, seed: int, x: Any) -> Autoencoder:
    """Return the model that a config's run on these training examples alone tests; x: (n, *shape), or `Examples`."""
    return trained(config, seed, Data({"train": x if isinstance(x, Examples) else Examples(jnp.asarray(x))}, None))


@jax.jit
def _state(config: train.Config, splits: dict[str, Any]) -> train.TrainState:
    return train.train(config, jax.random.key(config.seed), splits).tested(config)


def shown(data: Data, split: str) -> Shown:
    """Return the examples of a split as a model sees them, on the host."""
    return measured.shown(data.splits, data.dataset, split)


def subject_of(model: Autoencoder, seed: int, data: Data, limit: int | None = None) -> Subject:
    """Return what metrics are asked about: the model on the first `limit` test examples (None: all), and training's."""
    test, seen = (shown(data, split) for split in ("test", "train"))
    test = jax.tree.map(lambda a: a[:limit], test)
    of = data.dataset
    return Subject(model, test, seen, seed=seed, factor_names=of.factor_names, ratings=of.ratings)


def numbers_of(subject: Subject, names: Iterable[str]) -> dict[str, Any]:
    """Return what metrics of these names say (`models.metrics.registry`): {name: number, or array of a list}.

    Raises ConfigError for a metric that the model or the data cannot have.
    """
    found, reasons = registry.measure(subject, names)
    if reasons:
        name, why = next(iter(reasons.items()))
        raise ConfigError(f"{name}: {why}")
    return {k: np.asarray(m.value)[()] for numbers in found.values() for k, m in numbers.items()}
