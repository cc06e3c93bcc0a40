"""The plain autoencoder."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import PRNGKeyArray

from models.autoencoder import Autoencoder
from models.config import config
from models.objectives.passing import ERROR_TERMS, Batch, Error, Result, Step, reconstruction_error, run


@config
class Reconstruction:
    """Distance between x and its reconstruction: the plain autoencoder."""

    error: Error = "squared"
    """squared: sum of squared errors; cross_entropy: nats (Bernoulli); nll: -log p(x|z), nats"""

    def __call__(self, model: Autoencoder, x: Batch, key: PRNGKeyArray, training: bool = True) -> Result:
        """Return the error of each example."""
        _, _, p = run(model, x, key, training)
        loss = reconstruction_error(self.error, p, x)
        if training:
            model.track(p, x)
        return loss, {ERROR_TERMS[self.error]: loss}

    @property
    def ramp_steps(self) -> int:
        """Steps after which every weight is at its full value."""
        return 0

    def criterion(self, metrics: Mapping[str, Any]) -> Any:
        """Return what early stopping minimises: this objective's own validation value."""
        return metrics["objective"]

    def at(self, step: Step) -> "Reconstruction":
        """Return itself: nothing is scheduled."""
        return self
