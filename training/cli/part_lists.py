"""Lists of parts on the command line: `--terms mmd contractive --terms.mmd.weight 3`.

tyro knows no list whose items have options of their own. It is shown a subclass of the config (a subclass, so that
the help texts of its fields survive) in which each list is a dataclass with one field per chosen part.
"""

import dataclasses
from typing import Any

from models.config import is_list, kind


def as_fields(cfg: Any) -> Any:
    """Return a config for tyro, whose lists of parts are dataclasses with a field per part."""
    shown, values = [], {}
    for f in dataclasses.fields(cfg):
        value = getattr(cfg, f.name)
        if is_list(type(cfg), f.name):
            parts = [(kind(type(part)), type(part), dataclasses.field(default=part)) for part in value]
            list_class = dataclasses.make_dataclass(f.name.capitalize(), parts, frozen=True)
            value = list_class()
            shown.append((f.name, list_class, dataclasses.field(default=value)))
        values[f.name] = value
    if not shown:
        return cfg
    return dataclasses.make_dataclass(type(cfg).__name__, shown, bases=(type(cfg),), frozen=True)(**values)


def from_fields(config_class: type, shown: Any) -> Any:
    """Return the config that `as_fields` was given, with the values in `shown`."""
    values = {f.name: getattr(shown, f.name) for f in dataclasses.fields(shown)}
    for name, value in values.items():
        if is_list(config_class, name) and not isinstance(value, tuple):
            values[name] = tuple(getattr(value, f.name) for f in dataclasses.fields(value))
    return config_class(**values)
