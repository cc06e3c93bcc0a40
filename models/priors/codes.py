"""Priors over discrete codes."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.batch import Sizes
from models.config import ConfigError, config
from models.distributions import Mask, PerExample
from models.networks.held import Held

Vector = Float[Array, "batch dims"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["book"], meta_fields=["places", "size"])
@dataclasses.dataclass(frozen=True)
class UniformCodes:
    """Every code alike: log P = -places log size, nats. `book.lookup(indices (batch, places))` gives the vectors."""

    book: Any
    places: int
    size: int

    @property
    def mean(self) -> Vector:
        """Return the code of all first entries, (1, dims): discrete codes have no mean."""
        return self.book.lookup(jnp.zeros((1, self.places), int))

    def sample(self, key: PRNGKeyArray) -> Vector:
        """Draw one code, (1, dims)."""
        return self.book.lookup(jax.random.randint(key, (1, self.places), 0, self.size))

    def log_prob(self, z: Array, mask: Mask = None) -> PerExample:
        """Return log P of every code, nats."""
        return jnp.full(z.shape[0], -self.places * math.log(self.size))


@config
class CodesPrior:
    """All entries of the posterior's codebook equally probable at every place, independently."""

    over_codes = True

    def fits(self, model: Any) -> None:
        """Raise ConfigError for a posterior whose codes are no choice among entries."""
        if not getattr(model.posterior, "discrete", False):
            raise ConfigError("prior codes needs discrete codes: use posterior vq, fsq or gumbel; or prior standard")

    def build(self, latent: int, sizes: Sizes, rngs: Any) -> Held:
        """Return the module."""
        return Held(self)

    def __call__(self, model: Any, label: Any, key: Any) -> UniformCodes:
        """Return the uniform prior over the posterior's codes."""
        book = model.posterior_module
        return UniformCodes(book, book.places, book.size)


def needs_codes(model: Any, name: str) -> None:
    """Raise ConfigError unless the prior of a model config is one over discrete codes."""
    if not getattr(model.prior, "over_codes", False):
        raise ConfigError(f"posterior {name} has discrete codes: use prior codes")
