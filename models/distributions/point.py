"""A certain value: the posterior of a plain autoencoder."""

from typing import NamedTuple

from jaxtyping import Array, PRNGKeyArray

from models.distributions.event import Event


class Point(NamedTuple):
    """All mass at `mean`: the posterior of a plain autoencoder. It has no density: no log_prob, no kl."""

    mean: Array

    def sample(self, key: PRNGKeyArray) -> Event:
        """Return the point; `key` is unused."""
        return self.mean
