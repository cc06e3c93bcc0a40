"""The denoising autoencoder."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
from jaxtyping import PRNGKeyArray

from models.autoencoder import Autoencoder
from models.config import ConfigError, config, setting
from models.objectives.corruption import corrupt
from models.objectives.passing import ERROR_TERMS, Batch, Error, Result, Step, reconstruction_error, run


@config
class Denoising:
    """Distance between the clean x and the reconstruction of a corrupted x (Vincent et al. 2008, 2010)."""

    corruption: Literal["gaussian", "mask", "salt_and_pepper"] = "gaussian"
    """gaussian: add noise; mask: set values to 0; salt_and_pepper: set values to 0 or 1"""
    level: float = setting(0.3, at_least=0)
    """gaussian: standard deviation in the units of x; mask, salt_and_pepper: share of values; 0: clean"""
    error: Error = "squared"
    """squared: sum of squared errors; cross_entropy: nats (Bernoulli); nll: -log p(x|z), nats"""

    def __call__(self, model: Autoencoder, x: Batch, key: PRNGKeyArray, training: bool = True) -> Result:
        """Return the error of each clean example, reconstructed from its corrupted self."""
        _, for_model = jax.random.split(key)
        _, _, p = run(model, self.corrupted(x, key), for_model, training)
        loss = reconstruction_error(self.error, p, x)
        if training:
            model.track(p, x)
        return loss, {ERROR_TERMS[self.error]: loss}

    def corrupted(self, x: Batch, key: PRNGKeyArray) -> Batch:
        """Return x with the noise that a call with this key adds."""
        return corrupt(self.corruption, x, jax.random.split(key)[0], self.level)

    @property
    def ramp_steps(self) -> int:
        """Steps after which every weight is at its full value."""
        return 0

    def criterion(self, metrics: Mapping[str, Any]) -> Any:
        """Return what early stopping minimises: this objective's own validation value."""
        return metrics["objective"]

    def at(self, step: Step) -> "Denoising":
        """Return itself: nothing is scheduled."""
        return self

    def check(self) -> None:
        """Raise ConfigError for a share of values above 1."""
        share = self.corruption != "gaussian" and isinstance(self.level, (int, float))
        if share and self.level > 1:
            raise ConfigError(f"level is a share of values for {self.corruption!r}: at most 1, got {self.level}")
