"""The plain autoencoder."""

from typing import Any

from jaxtyping import PRNGKeyArray

from models.batch import Batch
from models.config import config
from models.objectives.passing import ERROR_TERMS, Error, Result, Step, reconstruction_error, run, watched


@config
class Reconstruction:
    """Distance between x and its reconstruction: the plain autoencoder."""

    error: Error = "squared"
    """squared: sum of squared errors; cross_entropy: nats (Bernoulli); nll: -log p(x|z), nats"""

    criterion = staticmethod(watched)

    def __call__(self, model: Any, batch: Batch | Any, key: PRNGKeyArray, training: bool = True) -> Result:
        """Return the error of each example."""
        done = run(model, batch, key, training)
        loss = reconstruction_error(self.error, done.p, done.batch)
        return loss, {ERROR_TERMS[self.error]: loss}, done

    def at(self, step: Step) -> "Reconstruction":
        """Return itself: nothing is scheduled."""
        return self
