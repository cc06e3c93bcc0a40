"""One rule for hyperparameters: float fields are traced (a sweep can stack them), all else is structure.

    @config
    class ELBO:
        beta: float = 1.0            # a pytree leaf: may be a tracer, may be stacked over runs
        free_bits: float = static(0) # declared structure in spite of its type
        hidden: tuple[int, ...] = () # structure: part of `jax.tree.structure(cfg)`

Two configs with equal `jax.tree.structure` share one compiled program.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax

T = TypeVar("T")
Number = float | int


class ConfigError(ValueError):
    """A field has an impossible value, an unknown name, or a value of the wrong type."""


def setting(
    default: Any,
    *,
    static: bool = False,
    traced: bool = False,
    above: Number | None = None,
    at_least: Number | None = None,
    below: Number | None = None,
    at_most: Number | None = None,
) -> Any:
    """Declare a field with its range; `static` or `traced` overrides what its type implies."""
    limits = {"above": above, "at_least": at_least, "below": below, "at_most": at_most}
    metadata = {"static": static, "traced": traced, "limits": limits}
    return dataclasses.field(default=default, metadata=metadata)


def static(default: Number, **limits: Number) -> Any:
    """Declare a float that is structure: one that changes the program, such as a dropout rate."""
    return setting(default, static=True, **limits)  # type: ignore[arg-type]


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the hint alone."""
    if typing.get_origin(hint) is typing.Annotated:
        return _alternatives(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def part_types(cls: type, name: str) -> tuple[type, ...]:
    """Return the config classes that the field `name` of `cls` may hold; empty for a plain value."""
    return tuple(t for t in _alternatives(cls.__hints__[name]) if hasattr(t, "__hints__"))  # type: ignore[attr-defined]


@typing.dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def config(cls: type[T]) -> type[T]:
    """Make a frozen dataclass that is a pytree: leaves are its float fields, subtrees its configs.

    Type hints are resolved with `typing.get_type_hints`, so postponed annotations keep floats traced.
    Unflattening bypasses `__init__`: leaves may be tracers or stacks of runs.
    """
    cls = dataclasses.dataclass(frozen=True)(cls)
    hints = typing.get_type_hints(cls, localns={cls.__name__: cls})
    cls.__hints__ = hints  # type: ignore[attr-defined]
    meta = {f.name: f.metadata for f in dataclasses.fields(cls)}  # type: ignore[arg-type]

    def is_traced(name: str) -> bool:
        if meta[name].get("static"):
            return False
        return bool(meta[name].get("traced") or hints[name] is float or part_types(cls, name))

    traced = [name for name in meta if is_traced(name)]
    rest = [name for name in meta if name not in traced]

    def flatten_with_keys(c: T) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        leaves = [(jax.tree_util.GetAttrKey(n), getattr(c, n)) for n in traced]
        return leaves, tuple(getattr(c, n) for n in rest)

    def flatten(c: T) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(c, n) for n in traced], tuple(getattr(c, n) for n in rest)

    def unflatten(aux: tuple[Any, ...], leaves: Any) -> T:
        c = object.__new__(cls)
        for name, value in zip(traced + rest, (*leaves, *aux), strict=True):
            object.__setattr__(c, name, value)
        return c

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def with_traced(cfg: T, **values: Any) -> T:
    """Return `cfg` with fields replaced without running `__init__`: for values that may be tracers or stacks."""
    new = object.__new__(type(cfg))
    for name in cfg.__hints__:  # type: ignore[attr-defined]
        object.__setattr__(new, name, values.get(name, getattr(cfg, name)))
    return new


def is_config(value: object) -> bool:
    """Whether `value` is an instance of a `@config` class."""
    return hasattr(type(value), "__hints__") and dataclasses.is_dataclass(value)


def kind(cls: type) -> str:
    """Return the name by which a part is chosen on the command line: its class name in lower case."""
    return cls.__name__.lower()


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Return the `n` known names most like `name`, best first."""
    return difflib.get_close_matches(name, list(known), n=n, cutoff=0.0)


def flat(cfg: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value) for every plain field, and (path, kind) for every part."""
    for f in dataclasses.fields(cfg):
        value = getattr(cfg, f.name)
        if is_config(value):
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
    if not is_config(child):
        raise ConfigError(f"{head!r} has no field {rest!r}: it is a plain value")
    try:
        return dataclasses.replace(cfg, **{head: replace_at(child, rest, value)})  # type: ignore[type-var]
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if message.startswith("unknown") else f"{head}.{message}") from None


def coerce(cls: type, name: str, value: Any) -> Any:
    """Return `value` as the type of field `name` (JSON lists become tuples, ints become floats).

    Raises ConfigError, naming field, type and value, when it does not fit.
    """
    hint = cls.__hints__[name]  # type: ignore[attr-defined]
    parts = {kind(t): t for t in part_types(cls, name)}
    if parts:
        if type(value) in parts.values():
            return value
        if isinstance(value, str) and value.lower() in parts:
            return parts[value.lower()]()
        if isinstance(value, Mapping):
            return _part_from_dict(parts, name, value)
        raise ConfigError(f"{name} must be one of {', '.join(parts)}, got {value!r}")
    for alternative in _alternatives(hint):
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
    """Return a JSON-ready dict of every field; each config carries its class under "kind"."""
    out: dict[str, Any] = {"kind": type(cfg).__name__}
    for f in dataclasses.fields(cfg):
        value = getattr(cfg, f.name)
        if is_config(value):
            value = to_dict(value)
        elif isinstance(value, float) and not math.isfinite(value):
            value = str(value)
        out[f.name] = list(value) if isinstance(value, tuple) else value
    return out


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Rebuild a config from `to_dict`; missing fields take their defaults.

    Raises ConfigError for an unknown field (naming the nearest) or a value of the wrong type.
    """
    hints = cls.__hints__  # type: ignore[attr-defined]
    given = {k: v for k, v in values.items() if k != "kind"}
    for name in given:
        if name not in hints:
            raise ConfigError(f"unknown field {name!r}; nearest: {', '.join(nearest(name, hints))}")
    return cls(**{name: coerce(cls, name, value) for name, value in given.items()})


def _part_from_dict(parts: Mapping[str, type], name: str, value: Mapping[str, Any]) -> Any:
    chosen = str(value.get("kind", next(iter(parts)))).lower()
    if chosen not in parts:
        raise ConfigError(f"{name} must be one of {', '.join(parts)}, got kind {chosen!r}")
    return from_dict(parts[chosen], value)


def validate(cfg: Any, prefix: str = "") -> None:
    """Check every value of a config on the host against its type and declared range.

    Raises ConfigError naming the field, the type or bound, and the value. A config class may add a method
    `check(self)` for rules that involve several fields.
    """
    for f in dataclasses.fields(cfg):
        value = getattr(cfg, f.name)
        if is_config(value):
            validate(value, f"{prefix}{f.name}.")
            continue
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
            if math.isnan(item):
                raise ConfigError(f"{prefix}{f.name} must be a number, got {value!r}")
            for word, sign, ok in (
                ("above", ">", lambda a, b: a > b),
                ("at_least", ">=", lambda a, b: a >= b),
                ("below", "<", lambda a, b: a < b),
                ("at_most", "<=", lambda a, b: a <= b),
            ):
                bound = limits.get(word)
                if bound is not None and not ok(item, bound):
                    raise ConfigError(f"{prefix}{f.name} must be {sign} {bound}, got {value!r}")
    if hasattr(cfg, "check"):
        cfg.check()
