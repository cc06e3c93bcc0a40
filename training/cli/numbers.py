"""Numbers of a command's own options, refused before anything is loaded."""

from collections.abc import Mapping
from typing import Any

from models.config import ConfigError


def check_numbers(options: Any, least: Mapping[str, int]) -> None:
    """Raise ConfigError for an option, named as an attribute, below its least value, at 2^31 or above, or NaN."""
    for name, low in least.items():
        value = getattr(options, name)
        if value is None or low <= value < 2**31:
            continue
        what = f"at least {low}" if not value >= low else "below 2^31"
        raise ConfigError(f"--{name.replace('_', '-')} must be {what}, got {value}")
