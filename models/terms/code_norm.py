"""The size of codes."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.config import config, setting
from models.distributions import sum_event


@config
class CodeNorm:
    """|z|² / 2: what keeps the codes of a regularised autoencoder together (Ghosh et al. 2020, RAE, equation 3)."""

    weight: float = setting(1e-2, at_least=0)
    """factor of the term"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return half the squared norm of each code."""
        return 0.5 * sum_event(jnp.square(done.z))
