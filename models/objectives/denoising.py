"""The denoising autoencoder."""

from typing import Any, Literal

import jax
from jaxtyping import Array, PRNGKeyArray

from models.batch import Batch, as_batch
from models.config import ConfigError, config, setting
from models.objectives.corruption import corrupt
from models.objectives.passing import ERROR_TERMS, Answer, Error, Result, Step, reconstruction_error, run, watched


@config
class Denoising:
    """Distance between the clean x and the reconstruction of a corrupted x (Vincent et al. 2008, 2010)."""

    corruption: Literal["gaussian", "mask", "block", "salt_and_pepper", "unknown"] = "gaussian"
    """gaussian: add noise; mask: set values to 0; block: a square of an image; salt_and_pepper: to 0 or 1; unknown:
    symbols to the unknown one"""
    level: float = setting(0.3, at_least=0)
    """gaussian: standard deviation in the units of x; all others: share of values (block: of the area of a
    square image); 0: clean"""
    error: Error = "squared"
    """squared: sum of squared errors; cross_entropy: nats (Bernoulli); nll: -log p(x|z), nats"""

    criterion = staticmethod(watched)

    def __call__(self, model: Any, batch: Batch | Any, key: PRNGKeyArray, training: bool = True) -> Result:
        """Return the error of each clean example, reconstructed from its corrupted self. Raises ConfigError."""
        batch = as_batch(batch)
        if getattr(model, "symbolic", False) and self.corruption != "unknown":
            raise ConfigError(f"corruption {self.corruption} is for numbers, not for symbols: use unknown")
        for_noise, for_model = jax.random.split(key)
        seen = corrupt(self.corruption, batch.x, for_noise, self.level)
        done = run(model, batch, for_model, training, seen=seen)
        loss = reconstruction_error(self.error, done.p, batch)
        return loss, {ERROR_TERMS[self.error]: loss}, done

    def corrupted(self, x: Array, key: PRNGKeyArray) -> Array:
        """Return x with the noise that a call with this key adds."""
        return corrupt(self.corruption, x, jax.random.split(key)[0], self.level)

    def answer(self, model: Any, batch: Batch, key: PRNGKeyArray, label: Any = None) -> Answer:
        """Return the examples corrupted, and what the model makes of them."""
        seen = self.corrupted(batch.x, key)
        q = model.encode(model.sees(batch._replace(x=seen)), None, label)
        return Answer("noisy", seen, model.decode(q.mean, None, label).mean)

    def at(self, step: Step) -> "Denoising":
        """Return itself: nothing is scheduled."""
        return self

    def check(self) -> None:
        """Raise ConfigError for a share of values above 1."""
        share = self.corruption != "gaussian" and isinstance(self.level, (int, float))
        if share and self.level > 1:
            raise ConfigError(f"level is a share of values for {self.corruption!r}: at most 1, got {self.level}")
