"""What a call from Python must bring: checked before anything is traced, each fault in one clear line."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from models.config import ConfigError
from training.examples import Examples


def checked_splits(config: Any, splits: Any) -> dict[str, Examples]:
    """Return the splits as `Examples`; bare arrays are taken as they are, (n, *shape).

    Raises ConfigError for a missing train split, patience without a validation split, an array without a batch
    axis, splits of different shapes, a batch (or a codebook, see `Model.fits_data`) larger than the training split, and
    values that are not finite. Values that are being traced (inside `jit` or `vmap`) cannot be looked at: only their
    shapes are checked.
    """
    if not isinstance(splits, Mapping) or "train" not in splits:
        raise ConfigError(
            'splits must be a mapping with "train" (and "validation"), such as {"train": Examples(x)}, '
            f"got {type(splits).__name__ if not isinstance(splits, Mapping) else sorted(splits)}"
        )
    if config.patience and "validation" not in splits:
        raise ConfigError('patience needs a split "validation" to watch; give one, or patience=0')
    out = {name: part if isinstance(part, Examples) else Examples(jnp.asarray(part)) for name, part in splits.items()}
    shape = out["train"].shape if jnp.ndim(out["train"].x) else ()
    for name, part in out.items():
        if jnp.ndim(part.x) < 2:
            raise ConfigError(
                f"{name}: examples need a batch axis and at least one more, (n, *shape), got shape "
                f"{jnp.shape(part.x)}; a single example is x[None]"
            )
        if part.shape != shape:
            raise ConfigError(f"{name} holds examples of shape {part.shape}, train of {shape}")
        if _bad(part.x if part.mask is None else jnp.where(part.mask, part.x, 0)):
            raise ConfigError(f"{name} holds values that are not finite (NaN or infinity): remove or fill them first")
    if config.batch_size > len(out["train"]):
        raise ConfigError(
            f"batch_size must be at most {len(out['train'])}, the number of training examples, got {config.batch_size}"
        )
    config.model.fits_data(len(out["train"]))
    return out


def _bad(x: Any) -> bool:
    """Whether an array is there to be looked at and holds a value that is not finite."""
    if isinstance(x, (jax.core.Tracer, jax.ShapeDtypeStruct)) or not jnp.issubdtype(x.dtype, jnp.floating):
        return False
    return not bool(jnp.all(jnp.isfinite(x)))
