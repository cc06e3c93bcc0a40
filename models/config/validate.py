"""Every value of a config against its type and declared range, on the host."""

import dataclasses
import math
from typing import Any

import numpy as np

from models.config.declare import ConfigError, is_config, is_list, part_types
from models.config.kinds import by_kind, find_kind, kind, one_of_each
from models.config.values import coerce


def _as_stored(item: int | float) -> float:
    """Return a number as a run holds it: floats have 32 bits, so 1e39 is infinite, 1e-50 is 0, 0.9999999999 is 1."""
    if isinstance(item, int):
        return float(item)
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(item))


def validate(cfg: Any, prefix: str = "") -> None:
    """Check every value of a config on the host against its type and declared range.

    Raises ConfigError naming the field, the type or bound, and the value. A config class may add a method
    `check(self)` for rules that involve several fields.
    """
    for f in dataclasses.fields(cfg):
        value = getattr(cfg, f.name)
        if is_list(type(cfg), f.name):
            for part in value:
                validate(part, f"{prefix}{f.name}.{kind(type(part))}.")
            one_of_each(prefix + f.name, value)
            continue
        if is_config(value):
            validate(value, f"{prefix}{f.name}.")
            continue
        if isinstance(value, str) and part_types(type(cfg), f.name):
            found = find_kind(by_kind(type(cfg), f.name), value)
            example = found or part_types(type(cfg), f.name)[0]
            raise ConfigError(f"{prefix}{f.name} must be a part, such as {example.__name__}(), got {value!r}")
        if not hasattr(value, "dtype"):  # tracers and stacks of runs are checked before they are made
            try:
                coerce(type(cfg), f.name, value)
            except ConfigError as error:
                raise ConfigError(f"{prefix}{error}") from None
        limits = f.metadata.get("limits", {})
        for item in value if isinstance(value, tuple) else (value,):
            if not isinstance(item, (int, float)) or isinstance(item, bool):
                continue
            if isinstance(item, int) and abs(item) >= 2**31:  # XLA's indices, and our counters, are 32-bit integers
                raise ConfigError(f"{prefix}{f.name} must be below 2**31 = {2**31}, got {value!r}")
            stored = _as_stored(item)
            if not math.isfinite(stored):
                raise ConfigError(f"{prefix}{f.name} must be a finite number below 3.4e38 (float32), got {value!r}")
            for word, sign, ok in (
                ("above", ">", lambda a, b: a > b),
                ("at_least", ">=", lambda a, b: a >= b),
                ("below", "<", lambda a, b: a < b),
                ("at_most", "<=", lambda a, b: a <= b),
            ):
                bound = limits.get(word)
                if bound is not None and not (ok(item, bound) and ok(stored, bound)):
                    raise ConfigError(f"{prefix}{f.name} must be {sign} {bound}, got {value!r}")
    if hasattr(cfg, "check"):
        cfg.check()
