"""A run folder, or an exported one, as a `LoadedRun`: which checkpoint, and of the run that the folder says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from models.config import ConfigError, from_dict
from training.evaluate import trained_model
from training.host import StandIn
from training.store import schema
from training.store.checkpoint import best_path, latest, restore_like
from training.store.checkpoint import load as read_checkpoint
from training.store.errors import RunError
from training.store.identity import NAME as IDENTITY
from training.store.identity import Identity, read_config
from training.trained import exported
from training.trained.facts import Facts
from training.trained.run import FittedRun, LoadedRun


def load(init: Callable[..., Any], config_class: type, folder: Path, which: str | None) -> LoadedRun:
    """Return the trained run in a folder; see `train.load_run`, which says how a run begins."""
    if not folder.is_dir():
        raise RunError(f"there is no run folder {folder}")
    if exported.is_exported(folder):
        values = schema.read_json(folder / exported.CONFIG, schema.CONFIG)
    else:
        values = read_config(folder, report=lambda _: None)
    for name in ("data_dir", "init_from"):  # of the run's beginning, not of its config
        values.pop(name, None)
    try:
        config: Any = from_dict(config_class, values)
    except (ConfigError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{folder / 'config.json'} is not the config of a run: {error}") from None
    facts = Facts.of(folder)
    like = facts.examples_like()
    template = jax.eval_shape(lambda: init(config, jax.random.key(0), StandIn(facts.examples, facts.shape, like)))
    if exported.is_exported(folder):
        model = restore_like(trained_model(config, template), folder / exported.WEIGHTS)
        kind = FittedRun if read_checkpoint(folder / exported.WEIGHTS).meta.get("fitted") else LoadedRun
        return kind(folder, config, facts, jax.tree.map(jnp.asarray, model), "exported")
    path, found = checkpoint_of(folder, which)
    state = restore_like(template, path)
    return LoadedRun(folder, config, facts, trained_model(config, jax.tree.map(jnp.asarray, state)), found)


def checkpoint_of(folder: Path, which: str | None) -> tuple[Path, str]:
    """Return a checkpoint's file, and which it is; None: the one that the run's test numbers belong to, else the last.

    Raises RunError when there is none, or none that is sound.
    """
    if which not in ("best", "last", None):
        raise ConfigError(f"which must be 'best' or 'last', got {which!r}")
    summary = folder / "summary.json"
    if which is None and summary.exists():
        which = schema.read_json(summary, schema.SUMMARY).get("tested")
    known = Identity.read(folder) if (folder / IDENTITY).exists() else None
    strange = lambda meta: None if known is None else known.difference(meta.get("identity", {}))
    path = best_path(folder / "checkpoints")
    if which == "best":
        if not path.exists():
            raise RunError(f"{folder} has no best checkpoint: no epoch was validated; use which='last'")
        if why := strange(read_checkpoint(path).meta):
            raise RunError(f"refused checkpoint {path}: {why}")
        return path, "best"
    found = latest(folder / "checkpoints", lambda _: None, strange)
    if found is None:
        raise RunError(f"{folder} has no checkpoint: the run has not saved one yet")
    return found[0], "last"
