"""The problem that sweeps search by default: the run of a table or of `train.py`, scored on its validation split.

A trial is `running.one_run.run` through `running.group`, as a table's row is, so its numbers are those of the
same run alone. Rows of a group share one executable: on a CPU a call for each on one device, which gives a row the
same bits in any group; on an accelerator a `vmap` of fixed width. The test split is reported with the prefix test_
and never chooses anything.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import data
import train
from experiments.running import group
from experiments.search.problem import Fold, SweepProblem
from experiments.search.space.space import Space
from experiments.search.workers.programs import compiling
from models.config import ConfigError, nearest
from training.examples import Examples
from training.inputs import Inputs

Splits = dict[str, Examples]


def splits_of(config: Any, fold: Fold | None) -> Splits:
    """Return the splits that a config reads, or those of one fold of its training and validation examples.

    AUTOENCODERS_DATA names the folder of data files; without it the usual places are tried.
    """
    return _splits(group.data_key(config), fold)


@functools.lru_cache(maxsize=2)
def _splits(config: Any, fold: Fold | None) -> Splits:
    splits = group.data_of(config, os.environ.get("AUTOENCODERS_DATA"))[0]
    return splits if fold is None else fold_splits(splits, fold, config.batch_size)


def fitting(configs: Sequence[Any]) -> list[Any]:
    """Return the configs as they fit their data (`training.inputs`); raises data.DataError where one does not."""
    return group.fitting(configs, group.data_of(configs[0], os.environ.get("AUTOENCODERS_DATA"))[1])


def fold_splits(splits: Splits, fold: Fold, batch_size: int) -> Splits:
    """Return fold i of k as validation and the other folds as training examples; test stays as it is.

    One fixed shuffle serves every trial. All folds have floor(n / k) examples, so that they share a program;
    up to k - 1 examples are left out.
    """
    part, parts = fold
    both = [splits[name] for name in ("train", "validation") if name in splits]
    known = jax.tree.map(lambda *parts: np.concatenate([np.asarray(a) for a in parts]), *both)
    x = known.x
    size = len(x) // parts
    if size == 0 or size * (parts - 1) < batch_size:
        raise ConfigError(f"{parts} folds of {len(x)} examples leave too few to train with batches of {batch_size}")
    order = np.random.default_rng(0).permutation(len(x))[: size * parts]
    held_out = order[part * size : (part + 1) * size]
    rest = np.setdiff1d(order, held_out)
    take = lambda index: jax.tree.map(jnp.asarray, known.part(index))
    return splits | {"train": take(rest), "validation": take(held_out)}


def row(found: Mapping[str, Any], criterion: Callable[[Any], Any], patience: int = 0) -> dict[str, Any]:
    """Return a trial's metrics from a run's result (`running.group.result`), and why it diverged, if it did.

    Validation metrics of the epoch that was tested, test metrics with the prefix test_, "loss" (what is minimised
    by default and what early stopping watches); with patience also epochs_run and best_epoch. Of metrics by name also
    "units" and "not_measured".
    """
    history, at = found["history"]["validation"], (found["best_epoch"] or found["epochs"]) - 1
    metrics: dict[str, Any] = {name: values[at] for name, values in history.items()}
    metrics |= {f"test_{name}": value for name, value in found["test"].items()}
    # comparable between objectives and weights; of grey values and of symbols what stands in its place
    names = ("negative_elbo_nats", "penalised_cross_entropy_nats", "mse", "wrong_symbols")
    metrics["loss"] = next(metrics[name] for name in names if name in metrics)
    if patience:
        metrics |= {"epochs_run": found["epochs"], "best_epoch": found["best_epoch"]}
    metrics |= {"units": {f"test_{name}": unit for name, unit in found.get("units", {}).items()}}
    metrics |= {"not_measured": found.get("not_measured", {})}
    if bad := found["diverged"]:
        metrics["reason"] = f"{bad['term']} was not finite at step {bad['step']}"
    return metrics


def plan_of(width: int) -> group.Placement:
    """Return how the rows of a group run here.

    An accelerator's calls always have `width` rows, filled up where fewer are left, so that a row's bits do not
    depend on what else was missing.
    """
    if jax.default_backend() == "cpu":
        return group.plans()["sequential"]
    devices = group.plans()["vmap"].devices
    return group.Placement("vmap", devices, -(-width // devices))


def run_group(
    configs: Sequence[Any], fold: Fold | None, width: int, measures: tuple[Any, ...] = ()
) -> Iterator[dict[str, Any]]:
    """Yield the metrics of configs of equal structure, in order; they compile once. measures: see `one_run.run`."""
    check_read(configs[0].read)
    configs = fitting(configs)
    first = configs[0]
    whole = Inputs(*group.data_of(first, os.environ.get("AUTOENCODERS_DATA")))
    splits = splits_of(first, fold)
    plan = plan_of(width)
    shapes = jax.tree.map(lambda a: (a.shape, str(a.dtype)), splits)
    with compiling((plan, jax.tree.structure(first), str(shapes))):
        group.executable(plan, plan.devices * plan.rows, first, splits, measures)
    for take, out, seconds in group.run_with(plan, configs, splits, measures):
        for i in range(len(take)):
            one = jax.tree.map(lambda a, i=i: a[i], out)
            found = group.result(one, seconds / len(take), configs[take[i]], whole, measures)
            yield row(found, first.objective.criterion, first.patience)


def check(space: Space, data_dir: str | None) -> None:
    """Raise ConfigError for what no trial of a space can read: an unknown data set, no folder, a stream."""
    if data_dir is not None and not Path(data_dir).expanduser().is_dir():
        raise ConfigError(f"--data-dir {data_dir!r} is not a folder; give one that holds <name>/ folders")
    known, domains = data.NAMES, dict(space.domains)
    for name in getattr(domains.get("dataset"), "values", (space.base.dataset,)):
        if name not in known and not name.startswith(("tfds:", "file:")):
            raise ConfigError(f"unknown data set {name!r}; did you mean one of: {', '.join(nearest(name, known))}")
    for read in getattr(domains.get("read"), "values", (space.base.read,)):
        check_read(read)


def check_read(read: str) -> None:
    """Raise ConfigError unless the training examples are in memory."""
    if read == "stream":
        raise ConfigError(f"read must be 'memory' or 'auto' in a sweep, got {read!r}: a group's runs share their data")


def measuring(measures: tuple[Any, ...]) -> SweepProblem:
    """Return the problem with measures of every trial."""
    return dataclasses.replace(problem, run_group=functools.partial(run_group, measures=measures))


problem = SweepProblem(train.Config(), run_group, "loss", check, measuring)
