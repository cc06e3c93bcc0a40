"""Samplers that ask nobody: random, quasi-random and grid points."""

import itertools
import math

import numpy as np

from experiments.search.proposals.sampler import Sampler
from experiments.search.space.domains import MOST_POINTS, SpaceError
from experiments.search.space.space import Space, Values


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
        size = math.prod(domain.grid_size() for _, domain in space.domains)
        if size > MOST_POINTS:
            raise SpaceError(f"the grid has {size:,} points; a sweep has at most {MOST_POINTS:,}")
        axes = [[(name, value) for value in domain.grid()] for name, domain in space.domains]
        points: dict[str, Values] = {}
        for combination in itertools.product(*axes):
            values = space.active(dict(combination))
            points.setdefault(repr(values), values)
        self.points = list(points.values())

    def propose(self, first: int, count: int) -> list[Values]:
        """Return a stretch of the grid."""
        return self.points[first : first + count]
