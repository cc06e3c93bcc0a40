"""Values as their fields want them, and whole configs as JSON-ready dicts and back."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from models.config.declare import ConfigError, alternatives, is_config, is_list, item
from models.config.kinds import bare, by_kind, find_kind, nearest, one_of_each

T = TypeVar("T")
OWN_KIND = "kind_"  # in dicts, the field `kind` of a class that has one: "kind" is the class itself


def coerce(cls: type, name: str, value: Any) -> Any:
    """Return `value` as the type of field `name` (JSON lists become tuples, ints become floats).

    Raises ConfigError, naming field, type and value, when it does not fit.
    """
    hint = cls.__hints__[name]  # type: ignore[attr-defined]
    parts = by_kind(cls, name)
    if is_list(cls, name):
        given = value if isinstance(value, (list, tuple)) else [value]
        made = tuple(one if _is_own(item(hint), one) else _part(parts, name, one) for one in given)
        one_of_each(name, made)
        return made
    if parts:
        return value if _is_own(hint, value) else _part(parts, name, value)
    for alternative in alternatives(hint):
        try:
            return _as(alternative, value)
        except (TypeError, ValueError):
            continue
    raise ConfigError(f"{name} must be of type {_type_name(hint)}, got {value!r}")


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(repr, typing.get_args(hint)))
    return getattr(hint, "__name__", str(hint)) if not typing.get_args(hint) else str(hint)


def _as(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        if value in typing.get_args(hint):
            return value
    elif origin is tuple:
        inner = typing.get_args(hint)
        if isinstance(value, (list, tuple)):
            if len(inner) == 2 and inner[1] is Ellipsis:
                return tuple(_as(inner[0], v) for v in value)
            if len(inner) == len(value):
                return tuple(_as(t, v) for t, v in zip(inner, value, strict=True))
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif hint is float and isinstance(value, str) and value in ("inf", "-inf", "nan"):
        return float(value)  # JSON has no infinities: to_dict writes them as strings
    elif hint is types.NoneType or hint is None:
        if value is None:
            return None
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise TypeError


def to_dict(cfg: Any) -> dict[str, Any]:
    """Return a JSON-ready dict of every field; each config carries its bare class name under "kind"."""
    out: dict[str, Any] = {"kind": bare(type(cfg))}
    for f in dataclasses.fields(cfg):
        value = getattr(cfg, f.name)
        if is_list(type(cfg), f.name):
            value = tuple(to_dict(part) for part in value)
        elif is_config(value):
            value = to_dict(value)
        elif isinstance(value, float) and not math.isfinite(value):
            value = str(value)
        out[OWN_KIND if f.name == "kind" else f.name] = list(value) if isinstance(value, tuple) else value
    return out


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Rebuild a config from `to_dict`; missing fields take their defaults.

    A class may have a static method `renamed(values)` that takes fields of earlier versions to today's.
    Raises ConfigError for an unknown field (naming the nearest) or a value of the wrong type.
    """
    hints = cls.__hints__  # type: ignore[attr-defined]
    given = {"kind" if k == OWN_KIND else k: v for k, v in values.items() if k != "kind"}
    if hasattr(cls, "renamed"):
        given = cls.renamed(given)  # type: ignore[attr-defined]
    for name in given:
        if name not in hints:
            raise ConfigError(f"unknown field {name!r}; nearest: {', '.join(nearest(name, hints))}")
    return cls(**{name: coerce(cls, name, value) for name, value in given.items()})


def _is_own(hint: Any, value: Any) -> bool:
    """Whether `value` is a part of the user's own: a config that fits a protocol among the alternatives."""
    protocols = [t for t in alternatives(hint) if getattr(t, "_is_protocol", False)]
    return is_config(value) and any(isinstance(value, t) for t in protocols)


def _part(parts: Mapping[str, type], name: str, value: Any) -> Any:
    """Return a part that is given as itself, by its kind, or as a dict (without a kind: the first alternative)."""
    if type(value) in parts.values():
        return value
    if isinstance(value, str):
        chosen: Any = value
    else:
        chosen = value.get("kind", next(iter(parts))) if isinstance(value, Mapping) else None
    cls = find_kind(parts, chosen) if isinstance(chosen, str) else None
    if cls is None:
        said = f"kind {chosen!r}" if isinstance(value, Mapping) else repr(value)
        raise ConfigError(f"{name} must be one of {', '.join(parts)}, got {said}")
    return from_dict(cls, value) if isinstance(value, Mapping) else cls()
