"""Which sampler proposes the points of a sweep."""

from typing import Any

from experiments.search.proposals.designs import Grid, Random, Sobol
from experiments.search.proposals.optuna import NAMES, Optuna
from experiments.search.proposals.sampler import Sampler
from experiments.search.space.domains import SpaceError
from experiments.search.space.space import Space

PLAIN: dict[str, type[Any]] = {"random": Random, "sobol": Sobol, "grid": Grid}


def make_sampler(name: str, space: Space, seed: int, objectives: int = 1, generation: int = 8) -> Sampler:
    """Return the sampler called `name`: grid, random, sobol, or one of Optuna's (tpe, cmaes, gp, nsgaii, ...).

    Raises SpaceError for an unknown name, or when Optuna or one of its parts is not installed.
    """
    if name in PLAIN:
        return PLAIN[name](space, seed)  # type: ignore[no-any-return]
    if name not in NAMES and not name.startswith("optuna:"):
        raise SpaceError(f"unknown sampler {name!r}; known: {', '.join([*PLAIN, *NAMES, 'optuna:<class name>'])}")
    return Optuna(name, space, seed, objectives, generation)
