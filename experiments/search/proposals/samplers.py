"""Samplers: which point of the space a trial tries.

A point depends only on the sweep seed, its index and the scores of finished generations, never on how many
workers ran or in which order they ended; so a sweep gives the same table however it was interrupted.
"""

import abc
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.search.space.domains import SpaceError
from experiments.search.space.space import Space, Values

Score = tuple[float, ...] | None  # what is minimised, one number per objective; None: failed or diverged


class Sampler(abc.ABC):
    """Proposes points in the order of their indices; `observe` receives the scores of a finished generation."""

    adaptive = False

    @abc.abstractmethod
    def propose(self, first: int, count: int) -> list[Values]:
        """Return the points first, ..., first + count - 1; shorter when the space is exhausted."""

    def observe(self, first: int, scores: Sequence[Score]) -> None:  # noqa: B027
        """Take the scores of the points first, first + 1, ...; samplers that do not adapt ignore them."""


class Random(Sampler):
    """Independent points, uniform in each domain."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed

    def propose(self, first: int, count: int) -> list[Values]:
        """Return points that each have their own generator, seeded by (sweep seed, index)."""
        return [self._point(i) for i in range(first, first + count)]

    def _point(self, index: int) -> Values:
        u = np.random.default_rng([self.seed, index]).random(len(self.space.domains))
        return _place(self.space, u)


class Sobol(Sampler):
    """Quasi-random points: a scrambled Sobol sequence covers the space more evenly than chance does."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed

    def propose(self, first: int, count: int) -> list[Values]:
        """Return a stretch of the sequence; it is drawn to the next power of 2, where it is balanced."""
        from scipy.stats import qmc

        sequence = qmc.Sobol(len(self.space.domains), scramble=True, rng=np.random.default_rng(self.seed))
        u = sequence.random_base2((first + count - 1).bit_length())
        return [_place(self.space, row) for row in u[first : first + count]]


def _place(space: Space, u: np.ndarray) -> Values:
    return space.active({name: domain.at(float(x)) for (name, domain), x in zip(space.domains, u, strict=True)})


class Grid(Sampler):
    """Every combination, the last field fastest; combinations that differ only in absent fields count once."""

    def __init__(self, space: Space, seed: int = 0) -> None:
        axes = [[(name, value) for value in domain.grid()] for name, domain in space.domains]
        points: dict[str, Values] = {}
        for combination in itertools.product(*axes):
            values = space.active(dict(combination))
            points.setdefault(repr(values), values)
        self.points = list(points.values())

    def propose(self, first: int, count: int) -> list[Values]:
        """Return a stretch of the grid."""
        return self.points[first : first + count]


PLAIN: dict[str, type[Any]] = {"random": Random, "sobol": Sobol, "grid": Grid}


def make_sampler(name: str, space: Space, seed: int, objectives: int = 1, generation: int = 8) -> Sampler:
    """Return the sampler called `name`: grid, random, sobol, or one of Optuna's (tpe, cmaes, gp, nsgaii, ...).

    Raises SpaceError for an unknown name, or when Optuna or one of its parts is not installed.
    """
    if name in PLAIN:
        return PLAIN[name](space, seed)  # type: ignore[no-any-return]
    from experiments.search.proposals.optuna_sampler import NAMES, Optuna

    if name not in NAMES and not name.startswith("optuna:"):
        raise SpaceError(f"unknown sampler {name!r}; known: {', '.join([*PLAIN, *NAMES, 'optuna:<class name>'])}")
    return Optuna(name, space, seed, objectives, generation)
