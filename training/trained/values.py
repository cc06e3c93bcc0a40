"""What a trained model is given: raw values, checked against what it was trained on, scaled as in training."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from models.config import ConfigError
from models.objectives import Denoising
from training.examples import binarise
from training.inputs.support import outside
from training.trained.facts import Facts


def check_whole(name: str, value: Any, least: int, more: str = "") -> None:
    """Raise ConfigError unless a number that a verb takes is whole and at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ConfigError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ConfigError(f"{name} must be at least {least}{more}, got {value}")


def as_key(key: Any) -> PRNGKeyArray:
    """Return a key of JAX, or of a whole number. Raises ConfigError for anything else."""
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool) and 0 <= key < 2**32:
        return jax.random.key(int(key))
    shape = np.shape(key)
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not (typed and shape == ()) and not (getattr(key, "dtype", None) == np.uint32 and shape == (2,)):
        raise ConfigError(f"key must be a key of jax.random, or a whole number from 0 below 2^32, got {key!r:.60}")
    return key  # type: ignore[no-any-return]


def as_seen(facts: Facts, config: Any, x: Any, exact: bool = False) -> tuple[np.ndarray, bool]:
    """Return raw examples as the model sees them, (n, *shape) float32, and whether there was only one.

    Raises ConfigError, one line, for another shape or type, and for values outside the data's range or the likelihood's
    support; a denoiser's may be off its support, unless `exact`.
    """
    shape = facts.shape
    x = np.asarray(facts.values(x))
    if len(shape) > 1 and shape[-1] == 1 and shape[:-1] in (x.shape, x.shape[1:]):
        x = x[..., None]  # grey pictures without their channel, series of one column
    single = x.shape == shape
    x = x[None] if single else x
    if x.shape[1:] != shape:
        raise ConfigError(f"this run takes examples of shape {shape}, one or a batch of them, got {x.shape}")
    if not len(x):
        raise ConfigError("there is no example to work on: the batch is empty")
    if x.dtype.kind not in "buif":
        raise ConfigError(f"examples must be numbers, got dtype {x.dtype}")
    bad = _not_there(facts, config, x)
    if bad.any():
        raise ConfigError(f"{int(bad.sum())} of {x.size} values are not finite; remove or fill them")
    if (empty := np.isnan(x).reshape(len(x), -1).all(1)).any():
        raise ConfigError(f"example {int(np.argmax(empty))}: every value is missing (nan); leave such examples out")
    _check_range(facts, x)
    scaled = facts.scale.apply(x)
    how = config.binarise
    if how != "none":  # draws by a fixed key: the same example has the same bits every time
        bits = binarise(jnp.asarray(scaled), "dynamic" if how == "static" else how, jax.random.key(0))
        scaled = np.asarray(bits)
    elif exact or not isinstance(config.objective, Denoising):  # whose inputs may be as noisy as in training
        _check_support(facts, config.model.likelihood, x, scaled)
    return scaled, single


def _not_there(facts: Facts, config: Any, x: np.ndarray) -> np.ndarray:
    """Return which values are no numbers: nan stands for a missing one in a run that is told of these."""
    if x.dtype.kind != "f":
        return np.zeros(x.shape, bool)
    may = config.model.marks == "on" or bool((facts.record.get("reading") or {}).get("missing"))
    return np.isinf(x) if may else ~np.isfinite(x)


def _check_support(facts: Facts, likelihood: Any, x: np.ndarray, scaled: np.ndarray) -> None:
    """Refuse values that are none in the training data: grey among bits, fractions among levels, counts, symbols."""
    low, high = facts.low, facts.high
    if facts.bits and (bad := (x != low) & (x != high)).any():
        raise ConfigError(
            f"this run's data were bits, stored as {low:g} and {high:g}; got {x[bad][0]:g}: "
            f"threshold the values first, such as np.where(x > {(low + high) / 2:g}, {high:g}, {low:g})"
        )
    if said := outside(likelihood, scaled):
        raise ConfigError(f"{said}; pass values as they were in training, the run scales them itself")


def _check_range(facts: Facts, x: np.ndarray) -> None:
    """Refuse levels that are none of the training data's: real values, such as a table's, may lie anywhere."""
    low, high = facts.low, facts.high
    found = float(np.nanmin(x)), float(np.nanmax(x))
    if not facts.whole or not facts.picture:
        return
    if found[0] < low or found[1] > high:
        raise ConfigError(f"values must lie in {low:g} to {high:g}, as in training; got {found[0]:g} to {found[1]:g}")
    if high - low > 1 and found[1] <= 1 and x.dtype.kind == "f" and (x != np.round(x)).any():
        raise ConfigError(
            f"values are fractions of 1, this run's data were whole numbers from {low:g} to {high:g}: "
            "pass them as they were, the run scales them itself"
        )


def numbered(labels: np.ndarray | None, names: Sequence[str], facts: Facts, where: str) -> np.ndarray:
    """Return labels as the numbers that a model was given in training. Raises ConfigError for none, or unknown ones."""
    if labels is None:
        raise ConfigError(f"this run was given labels and {where} has none: name their column or array as in training")
    known = facts.record.get("classes")
    if not isinstance(known, list):
        return np.asarray(labels).astype(np.int32)
    said = [str(names[int(y)]) if names else str(y) for y in labels.tolist()]
    if unseen := sorted(set(said) - set(known)):
        raise ConfigError(
            f"{where} holds the label {unseen[0]!r}, which was not there in training ({', '.join(known)})"
        )
    return np.array([known.index(name) for name in said], np.int32)
