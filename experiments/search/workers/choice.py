"""Which engine runs a sweep."""

import importlib.util

from experiments.search.space.domains import SpaceError
from experiments.search.workers.engine import Engine, Greeting
from experiments.search.workers.local import Local

ENGINES = ("local", "ray")


def check_engine(name: str) -> None:
    """Raise SpaceError, with the line that installs it, when an engine's package is absent."""
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise SpaceError("--engine ray needs Ray: pip install -e '.[ray]'")


def make_engine(name: str, greeting: Greeting, workers: int) -> Engine:
    """Return the engine of one of the names `ENGINES` (see `check_engine`)."""
    if name == "local":
        return Local(greeting, workers)
    from experiments.search.workers.ray import Ray

    return Ray(greeting, workers)
