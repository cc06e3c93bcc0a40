"""What a sampler is: which point of the space a trial tries.

A point depends only on the sweep seed, its index and the scores of finished generations, never on how many
workers ran or in which order they ended; so a sweep gives the same table however it was interrupted.
"""

import abc
from collections.abc import Sequence

from experiments.search.space.space import Values

Score = tuple[float, ...] | None  # what is minimised, one number per objective; None: failed or diverged


class Sampler(abc.ABC):
    """Proposes points in the order of their indices; `observe` receives the scores of a finished generation."""

    adaptive = False

    @abc.abstractmethod
    def propose(self, first: int, count: int) -> list[Values]:
        """Return the points first, ..., first + count - 1; shorter when the space is exhausted."""

    def observe(self, first: int, scores: Sequence[Score]) -> None:  # noqa: B027
        """Take the scores of the points first, first + 1, ...; samplers that do not adapt ignore them."""
