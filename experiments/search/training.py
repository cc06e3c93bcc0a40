"""The problem that sweeps search by default: `train.train` on a data set, scored on its validation split.

Rows of a group run in one executable. On a CPU they go one after another, which is as fast as any stack of rows
and gives each row the same bits in any group; on an accelerator they are stacked and `vmap`ped. The test split
is reported with the prefix test_ and never chooses anything.
"""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import train
from experiments.search.problem import Fold, Problem
from models.config import ConfigError
from training.examples import Examples
from training.host import criterion
from training.inputs import load_splits

Splits = dict[str, Examples]


@functools.lru_cache(maxsize=2)
def splits_of(dataset: str, binarise: str, batch_size: int, fold: Fold | None) -> Splits:
    """Return the splits of a data set, or those of one fold of its training and validation examples.

    AUTOENCODERS_DATA names the folder of data files; without it the usual places are tried.
    """
    splits, _ = load_splits(dataset, binarise, batch_size, os.environ.get("AUTOENCODERS_DATA"))  # type: ignore[arg-type]
    return splits if fold is None else fold_splits(splits, fold, batch_size)


def fold_splits(splits: Splits, fold: Fold, batch_size: int) -> Splits:
    """Return fold i of k as validation and the other folds as training examples; test data stay out.

    One fixed shuffle serves every trial. All folds have floor(n / k) examples, so that they share a program;
    up to k - 1 examples are left out.
    """
    part, parts = fold
    known = [splits[name].x for name in ("train", "validation") if name in splits]
    x = np.concatenate([np.asarray(a) for a in known])
    size = len(x) // parts
    if size == 0 or size * (parts - 1) < batch_size:
        raise ConfigError(f"{parts} folds of {len(x)} examples leave too few to train with batches of {batch_size}")
    order = np.random.default_rng(0).permutation(len(x))[: size * parts]
    held_out = order[part * size : (part + 1) * size]
    rest = np.setdiff1d(order, held_out)
    take = lambda index: Examples(jnp.asarray(x[index]), splits["train"].range)
    return {"train": take(rest), "validation": take(held_out)}


def _run(config: Any, splits: Splits) -> dict[str, jax.Array]:
    """Train and measure one run: a pure function of the config (with its seed) and the data.

    The keys are those of `train.fit`, so a trial's numbers are those of the same run alone.
    """
    key = jax.random.key(config.seed)
    state, _ = train.train(config, key, splits["train"])
    found = train.evaluate(config, state, splits["validation"], jax.random.fold_in(key, 1))
    if "test" in splits:
        values = train.evaluate(config, state, splits["test"], jax.random.fold_in(key, 2))
        found = found | {f"test_{name}": value for name, value in values.items()}
    return found | {"bad_step": state.bad_step}


_one = jax.jit(_run)
_stack = jax.jit(jax.vmap(_run, in_axes=(0, None)))


def row(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's metrics as floats, with "loss" (what is minimised by default) and why it diverged, if it did."""
    metrics: dict[str, Any] = {name: float(value) for name, value in values.items() if name != "bad_step"}
    metrics["loss"] = criterion(metrics)
    if int(values["bad_step"]) >= 0:
        metrics["reason"] = f"a loss or gradient was not finite at step {int(values['bad_step'])}"
    return metrics


def run_group(configs: Sequence[Any], fold: Fold | None) -> Iterator[dict[str, Any]]:
    """Yield the metrics of configs of equal structure, in order; they compile once."""
    first = configs[0]
    if first.patience:
        raise ConfigError(f"patience must be 0 in a sweep, got {first.patience}: halving stops the runs that lag")
    splits = splits_of(first.dataset, first.binarise, first.batch_size, fold)
    if jax.default_backend() == "cpu":
        for config in configs:
            yield row(jax.device_get(_one(jax.tree.map(jnp.asarray, config), splits)))
        return
    stacked = jax.tree.map(lambda *leaves: jnp.asarray(leaves), *configs)
    values = jax.device_get(_stack(stacked, splits))
    for i in range(len(configs)):
        yield row({name: value[i] for name, value in values.items()})


problem = Problem(train.Config(), run_group, "loss")
