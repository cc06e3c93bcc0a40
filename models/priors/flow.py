"""A standard normal pushed through a flow."""

from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.batch import Sizes
from models.config import config, setting
from models.distributions import Flowed, Normal, at_least_float32
from models.networks.flows import stack
from models.priors.standard import standard_normal


@config
class FlowPrior:
    """A standard normal pushed through invertible steps, trained with the rest."""

    kind: Literal["coupling", "iaf"] = "coupling"
    """coupling: RealNVP; iaf: inverse autoregressive, its density takes as many passes as there are units"""
    steps: int = setting(4, at_least=1)
    """number of steps"""
    hidden: int = setting(64, at_least=1)
    """width of each step's network"""
    base: Literal["standard", "free"] = "standard"
    """standard: a standard normal is pushed; free: one whose means and deviations are trained as well"""

    def build(self, latent: int, sizes: Sizes, rngs: nnx.Rngs) -> "Pushed":
        """Return the module."""
        flow = stack(self.kind, latent, 0, self.steps, self.hidden, rngs)
        return Pushed(flow, None if self.base == "standard" else jnp.zeros((2, latent)))


class Pushed(nnx.Module):
    """The flow of a prior; `base` holds means and log deviations of what is pushed, None for a standard normal."""

    def __init__(self, flow: Any, base: Float[Array, "2 latent"] | None):
        self.flow = flow
        self.base = None if base is None else nnx.Param(base)

    def __call__(self, model: Any, label: Any, key: Any) -> Flowed:
        """Return the pushed normal, a batch of one."""
        if self.base is None:
            return Flowed(standard_normal(model.latent), self.flow)
        base = at_least_float32(self.base[...])
        return Flowed(Normal(base[:1], base[1:]), self.flow)
