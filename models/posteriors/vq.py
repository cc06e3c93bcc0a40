"""Vector quantisation: the nearest entry of a codebook at every place."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.config import ConfigError, config, setting
from models.distributions import Quantised
from models.networks.codebook import Codebook
from models.networks.held import Held
from models.priors.codes import needs_codes


@config
class VQPosterior:
    """The nearest entry of a codebook at every place of the code (van den Oord et al. 2017); with term commitment.

    A place is `width` neighbouring units. levels > 1: residual quantisation, each book on what the one before left.
    """

    entries: int = setting(64, at_least=2)
    """entries of a codebook"""
    width: int = setting(0, at_least=0)
    """units per place, a divisor of latent; 0: 4, 2 or 1, the largest that divides"""
    levels: int = setting(1, at_least=1)
    """codebooks, one after another; each adds an index per place"""
    learn: Literal["moving", "gradient"] = "moving"
    """moving: entries are running means of what they were assigned; gradient: parameters, by the term commitment"""
    decay: float = setting(0.95, at_least=0, below=1)
    """of the running means"""
    restart: float = setting(0.03, at_least=0, below=1)
    """share of the fair use below which an entry is put on a point of the batch (moving only); 0: never"""

    discrete = True

    @property
    def residual(self) -> bool:
        """Whether an entry is added to another one."""
        return self.levels > 1

    def fits(self, model: Any) -> None:
        """Raise ConfigError for a prior that is not over codes."""
        needs_codes(model, "vq")

    def fits_data(self, examples: int, latent: int) -> None:
        """Raise ConfigError for more entries than there are points to put them on."""
        points = examples * latent // self.places_width(latent)
        if self.entries > points:
            raise ConfigError(
                f"posterior.entries must be at most {points}, the places of {examples} training examples, got "
                f"{self.entries}"
            )

    def places_width(self, latent: int) -> int:
        """Return the units per place. Raises ConfigError where they do not divide the code."""
        width = self.width or next(w for w in (4, 2, 1) if latent % w == 0)
        if latent % width:
            raise ConfigError(f"posterior.width must divide latent={latent}, got {width}")
        return width

    def numbers(self, latent: int) -> int:
        """Return `latent`."""
        self.places_width(latent)
        return latent

    def build(self, latent: int, rngs: nnx.Rngs) -> "Quantiser":
        """Return the module."""
        return Quantiser(self, latent, rngs=rngs)


class Quantiser(nnx.Module):
    """The codebook and its use; `places` indices of `size` entries are a code."""

    def __init__(self, cfg: VQPosterior, latent: int, *, rngs: nnx.Rngs):
        width = cfg.places_width(latent)
        self.held, self.size, self.places = Held(cfg), cfg.entries, latent // width * cfg.levels
        self.book = Codebook(cfg.levels, cfg.entries, width, cfg.learn == "moving", rngs=rngs)

    def lookup(self, indices: Array) -> Float[Array, "batch latent"]:
        """Return the codes of indices (batch, places): the levels of a place are neighbours."""
        return self.book.lookup(indices.reshape(indices.shape[0], -1, self.book.levels))

    def chosen(self, z: Float[Array, "batch latent"]) -> Float[Array, "batch places size"]:
        """Return the nearest entries of codes, one-hot (of one book: sums of several cannot be told apart)."""
        indices = self.book.nearest(z.reshape(-1, self.book.width))[0]
        return jax.nn.one_hot(indices.reshape(z.shape[0], -1), self.size, dtype=z.dtype)

    def __call__(self, numbers: Float[Array, "batch latent"], model: Any, key: Any) -> Quantised:
        """Return the nearest code; with a key, entries and counts move."""
        batch, points = numbers.shape[0], numbers.reshape(-1, self.book.width)
        indices, chosen, seen = self.book.nearest(points)
        if key is not None:
            cfg = self.held()
            self.book.move(indices, seen, cfg.decay, cfg.restart, key)
        whole = lambda v: jnp.sum(jnp.square(v).reshape(batch, -1), axis=1)
        commitment = whole(points - jax.lax.stop_gradient(chosen))
        distance = None if self.book.moving else whole(jax.lax.stop_gradient(points) - chosen)
        through = numbers + jax.lax.stop_gradient(chosen.reshape(numbers.shape) - numbers)
        return Quantised(through, indices.reshape(batch, -1), commitment, distance)
