"""What brings dead units of a dictionary back."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.config import ConfigError, config, setting
from models.distributions import sum_event


@config
class Revive:
    """|(x - x') - Σ over dead units of relu(number) column|²: units that are no longer used explain what is left over.

    AuxK of Gao et al. 2024 (Scaling and evaluating sparse autoencoders), appendix A.2: the `units` largest of those
    that no code has used for `after` steps; x' is held.
    """

    weight: float = setting(1 / 32, at_least=0)
    """factor of the term"""
    units: int = setting(16, at_least=1)
    """dead units that may act on an example"""
    after: int = setting(50, at_least=1)
    """steps without use after which a unit is dead"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the squared error of each example, 0 while no unit is dead. ConfigError for other decoders."""
        decoder = done.model.decoder
        if not hasattr(decoder, "idle"):
            raise ConfigError("term revive needs decoder dictionary, which counts how long a unit was unused")
        if done.head is None or done.head.shape[1] != done.z.shape[1]:
            raise ConfigError("term revive needs one number per unit: use posterior point, jump or gated")
        dead = decoder.idle[...] >= self.after
        numbers = jnp.where(dead[None], jax.nn.relu(decoder.limited(done.head)), 0)
        kept = jax.lax.top_k(numbers, min(self.units, numbers.shape[1]))[0][:, -1:]
        left = jax.lax.stop_gradient(done.batch.x - done.p.mean)
        error = sum_event(jnp.square(left - decoder.part(jnp.where(numbers >= kept, numbers, 0))), done.batch.mask)
        return jnp.where(jnp.any(dead), error, 0)
