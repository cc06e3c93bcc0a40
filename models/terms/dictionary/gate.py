"""What trains the gates of a gated autoencoder."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.codes import posterior_name
from models.config import ConfigError, config, setting
from models.distributions import sum_event


@config
class Gate:
    """|x - decode(relu(g))|² with the decoder held: gates alone have to reconstruct.

    Rajamanoharan et al. 2024 (Improving dictionary learning with gated sparse autoencoders), equation 8; the penalty of
    the same equation is term sparsity, which on a gated code is Σ relu(g).
    """

    weight: float = setting(1.0, at_least=0)
    """factor of the term"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the squared error of each example. Raises ConfigError for a code without gates."""
        module = done.model.posterior_module
        if not hasattr(module, "gate") or done.head is None:
            raise ConfigError(f"term gate needs posterior gated, got {posterior_name(done.q)}: leave the term out")
        held = jax.tree.map(jax.lax.stop_gradient, done.model)
        mean = held.decode(module.gate(done.head), None, done.batch.label).mean
        return sum_event(jnp.square(done.batch.x - mean), done.batch.mask)
