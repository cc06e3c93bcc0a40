"""The name by which a part is chosen on the command line, in JSON and in sweep paths."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from models.config.declare import ConfigError, part_types

# A normal posterior is no normal likelihood: the classes of these slots end with the slot.
SLOTS = ("Posterior", "Prior", "Likelihood")


def bare(cls: type) -> str:
    """Return a part's class name without its slot: "Normal" of NormalPosterior; the "kind" in JSON."""
    slot = next((slot for slot in SLOTS if cls.__name__.endswith(slot)), "")
    return cls.__name__.removesuffix(slot) or cls.__name__


def kind(cls: type) -> str:
    """Return the name by which a part is chosen: its `NAME` (low_rank), else its bare class name in lower case."""
    return getattr(cls, "NAME", bare(cls).lower())


def kinds(parts: Iterable[Any]) -> list[str]:
    """Return the kind of every part of a list."""
    return [kind(type(part)) for part in parts]


def by_kind(cls: type, name: str) -> dict[str, type]:
    """Return the classes that a field may hold, by their kind."""
    return {kind(t): t for t in part_types(cls, name)}


def find_kind(parts: Mapping[str, type], name: str) -> type | None:
    """Return the class of that kind, whatever its case and underscores; None for an unknown one."""
    plain = lambda text: text.lower().replace("_", "")
    return next((t for k, t in parts.items() if plain(name) in (plain(k), plain(bare(t)))), None)


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Return the `n` known names most like `name`, best first."""
    return difflib.get_close_matches(name, list(known), n=n, cutoff=0.0)


def one_of_each(name: str, parts: tuple[Any, ...]) -> None:
    """Raise ConfigError when two parts of a list are of one kind: their paths would be the same."""
    names = kinds(parts)
    if len(set(names)) < len(names):
        raise ConfigError(f"{name} may hold one part of each kind, got {', '.join(names)}")
