"""Hyperparameters: declared once, traced where they are floats, named by dotted paths, saved as JSON."""

from models.config.declare import ConfigError, config, is_config, is_list, part_types, setting, static, with_traced
from models.config.kinds import by_kind, find_kind, kind, kinds, nearest
from models.config.paths import flat, replace_at
from models.config.validate import validate
from models.config.values import coerce, from_dict, to_dict

__all__ = [
    "ConfigError",
    "by_kind",
    "coerce",
    "config",
    "find_kind",
    "flat",
    "from_dict",
    "is_config",
    "is_list",
    "kind",
    "kinds",
    "nearest",
    "part_types",
    "replace_at",
    "setting",
    "static",
    "to_dict",
    "validate",
    "with_traced",
]
