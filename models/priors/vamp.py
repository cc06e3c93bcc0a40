"""The VampPrior: the aggregate posterior of trained pseudo-inputs."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models.batch import Sizes
from models.codes import has_density
from models.config import ConfigError, config, setting
from models.distributions import Mixture


@config
class VampPrior:
    """The mixture of the posteriors of trained pseudo-inputs in [0, 1] (Tomczak & Welling 2018).

    Its density asks every pseudo-input's posterior about every code. With posterior flow iaf that is slow (two epochs
    of digits took minutes): the inverse goes unit by unit. Kind coupling, or prior flow, does not have this.
    """

    inputs: int = setting(50, at_least=1)
    """number of pseudo-inputs"""

    def fits_data(self, examples: int, latent: int) -> None:
        """Raise ConfigError for more pseudo-inputs than training examples; the default serves any data."""
        if self.inputs > max(examples, type(self)().inputs):
            raise ConfigError(f"prior.inputs must be at most the {examples} training examples, got {self.inputs}")

    def build(self, latent: int, sizes: Sizes, rngs: nnx.Rngs) -> "PseudoInputs":
        """Return the module."""
        return PseudoInputs(self.inputs, sizes.shape, rngs=rngs)

    def fits(self, model: Any) -> None:
        """Raise ConfigError for a model that cannot encode pseudo-inputs, or through which they have no gradient."""
        if model.labels != "none":
            raise ConfigError("prior vamp encodes pseudo-inputs without labels: use labels none, or prior mixture")
        if getattr(model.likelihood, "support", "") == "symbols":
            raise ConfigError("prior vamp learns pseudo-inputs, symbols have no gradient: use prior mixture")


class PseudoInputs(nnx.Module):
    """Pseudo-inputs, encoded at every call in evaluation mode: the prior of a step and of a test is the same.

    Under batch norm that means the running statistics, and pseudo-inputs never move them.
    """

    def __init__(self, count: int, shape: tuple[int, ...], *, rngs: nnx.Rngs):
        self.logits = nnx.Param(jax.random.normal(rngs.params(), (count, *shape)))

    def __call__(self, model: Any, label: Any, key: Any) -> Mixture:
        """Return the mixture. Raises ConfigError for a posterior without a density."""
        q = model.encode(jax.nn.sigmoid(self.logits[...]))
        if not has_density(q):
            raise ConfigError("prior vamp is a mixture of posteriors with a density: use posterior normal")
        return Mixture(jnp.zeros(self.logits.shape[0]), q)
