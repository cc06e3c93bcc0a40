"""One rule for hyperparameters: float fields are traced (a sweep can stack them), all else is structure.

    @config
    class ELBO:
        beta: float = 1.0            # a pytree leaf: may be a tracer, may be stacked over runs
        free_bits: float = static(0) # declared structure in spite of its type
        hidden: tuple[int, ...] = () # structure: part of `jax.tree.structure(cfg)`

Two configs with equal `jax.tree.structure` share one compiled program.
"""

import dataclasses
import types
import typing
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


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the hint alone."""
    if typing.get_origin(hint) is typing.Annotated:
        return alternatives(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def part_types(cls: type, name: str) -> tuple[type, ...]:
    """Return the config classes that the field `name` of `cls` may hold, one or a list; empty for a plain value."""
    hint = cls.__hints__[name]  # type: ignore[attr-defined]
    if item(hint) is not None:
        hint = item(hint)
    return tuple(t for t in alternatives(hint) if hasattr(t, "__hints__"))


def item(hint: Any) -> Any:
    """Return the type of the items of `tuple[..., ...]` if they are configs, else None."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is not tuple or len(inner) != 2 or inner[1] is not Ellipsis:
        return None
    return inner[0] if any(hasattr(t, "__hints__") for t in alternatives(inner[0])) else None


def is_list(cls: type, name: str) -> bool:
    """Whether the field holds any number of parts, `tuple[A | B, ...]`: one of a kind, named by it."""
    return item(cls.__hints__[name]) is not None  # type: ignore[attr-defined]


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
