"""What ties an encoder to its codebook."""

from typing import Any

from jaxtyping import Array, Float

from models.batch import Pass
from models.codes import posterior_name
from models.config import ConfigError, config, setting
from models.distributions import Quantised


@config
class Commitment:
    """|encoded - entry|² with the gradient in the encoder (van den Oord et al. 2017, equation 3, beta = weight).

    Where the codebook is learned by gradient, `codebook` times the same with the gradient in the entries is added.
    """

    weight: float = setting(0.25, at_least=0)
    """factor of the term"""
    codebook: float = setting(4.0, at_least=0)
    """factor of the entries' own distance (learn gradient) relative to the encoder's: 1 / 0.25 in the paper"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the squared distances, summed over places. Raises ConfigError for codes that are not quantised."""
        if not isinstance(done.q, Quantised):
            name = posterior_name(done.q)
            raise ConfigError(f"commitment needs posterior vq or fsq, got {name}: leave the term out")
        if done.q.distance is None:
            return done.q.commitment
        return done.q.commitment + self.codebook * done.q.distance
