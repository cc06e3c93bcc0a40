"""A standard normal pushed through a flow."""

from typing import Any, Literal

from flax import nnx

from models.batch import Sizes
from models.config import config, setting
from models.distributions import Flowed
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

    def build(self, latent: int, sizes: Sizes, rngs: nnx.Rngs) -> "Pushed":
        """Return the module."""
        return Pushed(stack(self.kind, latent, 0, self.steps, self.hidden, rngs))


class Pushed(nnx.Module):
    """The flow of a prior."""

    def __init__(self, flow: Any):
        self.flow = flow

    def __call__(self, model: Any, label: Any, key: Any) -> Flowed:
        """Return the pushed standard normal, a batch of one."""
        return Flowed(standard_normal(model.latent), self.flow)
