"""The space of a sweep: a domain for any field of a config, from the command line or a JSON or TOML file."""

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.search.space.domains import (
    Choice,
    Domain,
    Range,
    SpaceError,
    describe,
    parse_range,
    parse_word,
    split_list,
)
from models.config import ConfigError, coerce, flat, kind, nearest, part_types, replace_at, to_dict, validate

Values = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Space:
    """A base config and the domain of each swept field, in a fixed order (parts before their fields)."""

    base: Any
    domains: tuple[tuple[str, Domain], ...]

    @property
    def names(self) -> list[str]:
        """The dotted paths of the swept fields, in order."""
        return [name for name, _ in self.domains]

    def active(self, values: Mapping[str, Any]) -> Values:
        """Return the values whose field exists once the parts are chosen: beta has no meaning for a part without it."""
        return self._apply(values)[1]

    def configure(self, values: Mapping[str, Any], seed: int = 0, budget: Mapping[str, Any] | None = None) -> Any:
        """Return the config of one trial: the base with `values`, its seed `seed` later than the base's.

        Raises ConfigError when the values do not fit together.
        """
        cfg = self._apply(values)[0]
        for path, value in (budget or {}).items():
            cfg = replace_at(cfg, path, value)
        if seed:
            cfg = replace_at(cfg, "seed", cfg.seed + seed)
        validate(cfg)
        return cfg

    def _apply(self, values: Mapping[str, Any]) -> tuple[Any, Values]:
        cfg, used = self.base, {}
        for name, _ in self.domains:
            if name in values and _exists(cfg, name):
                cfg = replace_at(cfg, name, values[name])
                used[name] = values[name]
        return cfg, used

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides the meaning of a point, as plain JSON values."""
        return {"base": to_dict(self.base), "domains": {name: describe(d) for name, d in self.domains}}


def _exists(cfg: Any, path: str) -> bool:
    head, _, rest = path.partition(".")
    if head not in getattr(type(cfg), "__hints__", ()):
        return False
    return not rest or _exists(getattr(cfg, head), rest)


def owners(cls: type, path: str) -> Iterator[tuple[type, str]]:
    """Yield (class, field) for every class that may hold the field at a dotted path, over all alternative parts."""
    head, _, rest = path.partition(".")
    if head not in cls.__hints__:  # type: ignore[attr-defined]
        return
    if not rest:
        yield cls, head
    for part in part_types(cls, head) if rest else ():
        yield from owners(part, rest)


def all_fields(cls: type, prefix: str = "", seen: tuple[type, ...] = ()) -> Iterator[str]:
    """Yield every dotted path that some choice of parts makes a field."""
    for name in cls.__hints__:  # type: ignore[attr-defined]
        parts = part_types(cls, name)
        if len(parts) != 1:
            yield prefix + name
        for part in parts:
            if part not in seen:
                yield from all_fields(part, f"{prefix}{name}.", (*seen, cls))


def parse_domain(cls: type, path: str, text: Any) -> Domain:
    """Return the domain that `text` (command-line syntax, a list or one value) gives to the field at `path`.

    Raises SpaceError for an unknown field, a value of the wrong type or outside the field's own limits.
    """
    places = list(owners(cls, path))
    if not places:
        known = dict.fromkeys(all_fields(cls))
        raise SpaceError(f"unknown field {path!r}; did you mean one of: {', '.join(nearest(path, known))}")
    numbers = [t for t in (int, float) if any(t in _members(c.__hints__[n]) for c, n in places)]  # type: ignore[attr-defined]
    try:
        if isinstance(text, str) and (found := parse_range(text, numbers)):
            ends = [int(v) if found.integer else v for v in (found.low, found.high)]
            for end in ends:
                _fit(places, end)
            return found
        items = [parse_word(t) for t in split_list(text)] if isinstance(text, str) else text
        raw: list[Any] = split_list(text) if isinstance(text, str) else []
        items = items if isinstance(items, list) else [items]
        return Choice(tuple(_fit(places, item, *raw[i : i + 1]) for i, item in enumerate(items)))
    except ConfigError as error:
        message = str(error)
        raise SpaceError(message if message.startswith(path) else f"{path}: {message}") from None


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union (through Annotated), or the hint alone."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return _members(hint.__origin__) if typing.get_origin(hint) is typing.Annotated else (hint,)


def _fit(places: list[tuple[type, str]], *candidates: Any) -> Any:
    """Return the first candidate (a parsed word, then its text) that some owner accepts, as the owner's type."""
    failure = SpaceError("no value")
    for candidate in candidates:
        for cls, name in places:
            try:
                value = coerce(cls, name, candidate)
                if part_types(cls, name):
                    return str(candidate).lower()
                validate(_shell(cls, name, value))
                _check_bits(cls, name, value)
                return value
            except ConfigError as error:
                failure = failure if candidate is not candidates[0] else SpaceError(str(error))
    raise failure


def _check_bits(cls: type, name: str, value: Any) -> None:
    """Raise SpaceError for a whole number that no array holds: 32 bits of a traced field, such as a seed, else 64."""
    traced = next(f for f in dataclasses.fields(cls) if f.name == name).metadata.get("traced")
    most = 2**32 if traced else 2**63
    if any(type(v) is int and not -most < v < most for v in (value if isinstance(value, tuple) else [value])):
        raise SpaceError(f"{name} must be below {most}, got {value}")


def _shell(cls: type, name: str, value: Any) -> Any:
    """Return a config that holds one field only, so that the field's own limits are checked and no others."""
    field = next(f for f in dataclasses.fields(cls) if f.name == name)
    copy = dataclasses.field(default=value, metadata=field.metadata)
    hints = {"__hints__": {name: cls.__hints__[name]}}  # type: ignore[attr-defined]
    return dataclasses.make_dataclass("Shell", [(name, Any, copy)], frozen=True, namespace=hints)()


def parse_space(base: Any, texts: Mapping[str, Any]) -> Space:
    """Return the space of {path: text}, parts first. Raises SpaceError when it is empty or not possible."""
    if not texts:
        raise SpaceError("the space is empty; give at least one field, as in --lr 1e-4:1e-2:log")
    order = sorted(texts, key=lambda path: path.count("."))
    space = Space(base, tuple((path, parse_domain(type(base), path, texts[path])) for path in order))
    for path in order:
        if not _exists(base, path) and not _reachable(space, path):
            parent = path.rpartition(".")[0]
            chosen = dict(flat(base)).get(parent, "another part")
            have = sorted({kind(c) for c, _ in owners(type(base), path)})
            raise SpaceError(f"{path}: {parent} is {chosen}, which has no such field; add --{parent} {','.join(have)}")
    return space


def _reachable(space: Space, path: str) -> bool:
    """Whether some choice of the swept parts above `path` makes it a field."""
    cfgs = [space.base]
    for name, domain in space.domains:
        if path.startswith(name + ".") and isinstance(domain, Choice):
            cfgs = [replace_at(c, name, v) for c in cfgs if _exists(c, name) for v in domain.values]
    return any(_exists(c, path) for c in cfgs)


def read_space_file(path: str | Path) -> dict[str, Any]:
    """Return {dotted path: text or list} of a .json or .toml file; a table with low and high is a range.

    Raises SpaceError, naming the file, when it is absent, not readable or of another format.
    """
    file = Path(path)
    try:
        if file.suffix == ".toml":
            import tomllib

            tree = tomllib.loads(file.read_text())
        elif file.suffix == ".json":
            tree = json.loads(file.read_text())
        else:
            raise SpaceError(f"{file}: a space file ends in .toml or .json")
    except OSError as error:
        raise SpaceError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise SpaceError(str(error) if isinstance(error, SpaceError) else f"{file}: {error}") from None
    if not isinstance(tree, dict):
        raise SpaceError(f"{file}: a space is a table of fields, got a {type(tree).__name__}")
    return dict(_flatten(tree))


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if not isinstance(value, dict):
            yield prefix + key, value
        elif {"low", "high"} <= set(value) <= {"low", "high", "log", "points"}:
            words = [value["low"], value["high"], "log" if value.get("log") else "linear", value.get("points")]
            yield prefix + key, ":".join(str(w) for w in words if w is not None)
        else:
            yield from _flatten(value, f"{prefix}{key}.")


__all__ = ["Range", "Space", "Values", "all_fields", "owners", "parse_domain", "parse_space", "read_space_file"]
