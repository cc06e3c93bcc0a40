"""A normal pushed through a flow that sees the example."""

from typing import Any, Literal

from flax import nnx
from jaxtyping import Array, Float

from models import distributions
from models.config import config, setting
from models.distributions.finite import CODE_HIGHEST, bounded
from models.networks.flows import stack


@config
class FlowPosterior:
    """An independent normal pushed through invertible steps, each conditioned on the example."""

    kind: Literal["coupling", "iaf", "planar"] = "coupling"
    """coupling: RealNVP; iaf: inverse autoregressive; planar (its density is known at its own draws only)"""
    steps: int = setting(4, at_least=1)
    """number of steps"""
    hidden: int = setting(64, at_least=1)
    """width of each step's network"""
    context: int = setting(32, at_least=1)
    """numbers of the encoder that every step sees"""

    def numbers(self, latent: int) -> int:
        """Return mean, log std and context."""
        return 2 * latent + self.context

    def build(self, latent: int, rngs: nnx.Rngs) -> "PushedByExample":
        """Return the module."""
        return PushedByExample(stack(self.kind, latent, self.context, self.steps, self.hidden, rngs), latent)


class PushedByExample(nnx.Module):
    """The flow and the base that the encoder gives."""

    def __init__(self, flow: Any, latent: int):
        self.flow, self.latent = flow, latent

    def __call__(self, numbers: Float[Array, "batch numbers"], model: Any, key: Any) -> distributions.Flowed:
        """Return the pushed normal: means, log standard deviations, then the context."""
        n = self.latent
        base = distributions.Normal(numbers[:, :n], bounded(numbers[:, n : 2 * n], CODE_HIGHEST))
        return distributions.Flowed(base, self.flow, numbers[:, 2 * n :])
