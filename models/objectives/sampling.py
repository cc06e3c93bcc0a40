"""No distance: a model that is trained by its terms alone."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from models.batch import Batch, Pass, as_batch
from models.codes import prior_codes
from models.config import config
from models.objectives.passing import Result, Step


@config
class Sampling:
    """Codes from the prior in place of the posterior's, and a loss of 0: only the terms act (GAN: adversarial)."""

    def __call__(self, model: Any, batch: Batch | Any, key: PRNGKeyArray, training: bool = True) -> Result:
        """Return zeros and the pass of prior draws, one per example, with no posterior (q is None)."""
        batch = as_batch(batch)
        k_z, k_decode, more = jax.random.split(key, 3)
        z = prior_codes(model, k_z, batch.size, batch.label)
        p = model.decode(z, k_decode if training else None, batch.label)
        return jnp.zeros(batch.size), {}, Pass(model, batch, None, z, None, p, more, training)

    def criterion(self, metrics: Mapping[str, Any]) -> Any:
        """Return 0: no metric says when to stop, so early stopping keeps the first epoch."""
        return 0.0

    def at(self, step: Step) -> "Sampling":
        """Return itself: nothing is scheduled."""
        return self
