"""The fields of a config by their dotted paths."""

import dataclasses
from collections.abc import Iterator
from typing import Any, TypeVar

from models.config.declare import ConfigError, is_config, is_list, part_types
from models.config.kinds import kind, kinds, nearest
from models.config.values import coerce

T = TypeVar("T")


def flat(cfg: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value) for every plain field, (path, kind) for every part, (path, kinds) for a list."""
    for f in dataclasses.fields(cfg):
        value = getattr(cfg, f.name)
        if is_list(type(cfg), f.name):
            yield prefix + f.name, tuple(kinds(value))
            for part in value:
                yield from flat(part, f"{prefix}{f.name}.{kind(type(part))}.")
        elif is_config(value):
            if len(part_types(type(cfg), f.name)) > 1:
                yield prefix + f.name, kind(type(value))
            yield from flat(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, value


def replace_at(cfg: T, path: str, value: Any) -> T:
    """Return `cfg` with the field at a dotted path replaced; a part may be given by its kind.

    Raises ConfigError for an unknown path (naming the nearest) and for a value of the wrong type.
    """
    head, _, rest = path.partition(".")
    if head not in cfg.__hints__:  # type: ignore[attr-defined]
        known = dict(flat(cfg))
        close = ", ".join(nearest(path, known)) or ", ".join(known)
        raise ConfigError(f"unknown field {path!r}; did you mean one of: {close}")
    if not rest:
        return dataclasses.replace(cfg, **{head: coerce(type(cfg), head, value)})  # type: ignore[type-var]
    child = getattr(cfg, head)
    if not is_config(child) and not is_list(type(cfg), head):
        raise ConfigError(f"{head!r} has no field {rest!r}: it is a plain value")
    try:
        new = _replace_in_list(child, rest, value) if isinstance(child, tuple) else replace_at(child, rest, value)
        return dataclasses.replace(cfg, **{head: new})  # type: ignore[type-var]
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if message.startswith("unknown") else f"{head}.{message}") from None


def _replace_in_list(parts: tuple[Any, ...], path: str, value: Any) -> tuple[Any, ...]:
    """Return the parts with the field at `kind.path` of one of them replaced."""
    which, _, rest = path.partition(".")
    if which not in kinds(parts) or not rest:
        held = ", ".join(kinds(parts)) or "nothing"
        raise ConfigError(f"{which}: no field of a part of this list, which holds {held}")
    return tuple(replace_at(p, rest, value) if kind(type(p)) == which else p for p in parts)
