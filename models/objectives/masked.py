"""Masked autoencoding: patches of an image from the others."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from models.batch import Batch, as_batch
from models.config import ConfigError, config, setting, static
from models.objectives.passing import (
    ERROR_TERMS,
    Answer,
    Error,
    Result,
    Step,
    reconstruction_error,
    run,
    watched,
)


@config
class Masked:
    """Distance from x at patches that the encoder was not shown (He et al. 2022): needs encoder vit.

    share of the patches, drawn for every example, are left out of the encoder, which computes with the others alone.
    loss = error(hidden patches) + visible * error(shown patches), sums over pixels.
    """

    share: float = static(0.75, above=0, below=1)
    """share of the patches that the encoder does not see; at least one is hidden and one is shown"""
    visible: float = setting(0.1, at_least=0)
    """weight of the error at shown patches; 0 (He et al.): the model learns to answer for hidden ones alone"""
    error: Error = "squared"
    """squared: sum of squared errors; cross_entropy: nats (Bernoulli); nll: -log p(x|z), nats"""

    criterion = staticmethod(watched)

    def __call__(self, model: Any, batch: Batch | Any, key: PRNGKeyArray, training: bool = True) -> Result:
        """Return the weighted error of each example."""
        batch = as_batch(batch)
        for_patches, for_model = jax.random.split(key)
        seen, hidden = self.drawn(model, batch.size, for_patches)
        done = run(model, batch, for_model, training, patches=seen)
        at = lambda where: reconstruction_error(self.error, done.p, batch._replace(mask=observed(where, batch)))
        unseen, shown = at(hidden), at(~hidden)
        name = ERROR_TERMS[self.error]
        return unseen + self.visible * shown, {f"masked_{name}": unseen, f"visible_{name}": shown}, done

    def drawn(self, model: Any, n: int, key: PRNGKeyArray) -> tuple[Int[Array, "n seen"], Bool[Array, "n h w 1"]]:
        """Return the patches that the encoder sees of n examples, and which pixels it does not see."""
        patches = getattr(model.encoder, "patches", None)
        if patches is None:
            raise ConfigError("objective masked hides patches of the encoder: use encoder vit, or objective denoising")
        if len(patches) < 2:
            raise ConfigError(f"objective masked needs 2 patches at least, got one of {patches.side} pixels a side")
        count = min(max(round((1 - self.share) * len(patches)), 1), len(patches) - 1)
        seen = jnp.argsort(jax.random.uniform(key, (n, len(patches))), axis=1)[:, :count]
        shown = jnp.any(seen[:, :, None] == jnp.arange(len(patches))[None, None], axis=1)
        return seen, ~patches.pixels(shown)

    def answer(self, model: Any, batch: Batch, key: PRNGKeyArray, label: Any = None) -> Answer:
        """Return the image without its hidden patches (grey), with the model's in their place; those count."""
        seen, hidden = self.drawn(model, batch.size, jax.random.split(key)[0])
        numbers = model.numbers(model.sees(batch), None, label, seen)
        p = model.decode(model.posterior(numbers).mean, None, label)
        return Answer(
            "masked", jnp.where(hidden, 0.5, batch.x), jnp.where(hidden, p.mean, batch.x), observed(hidden, batch)
        )

    def at(self, step: Step) -> "Masked":
        """Return itself: nothing is scheduled."""
        return self


def observed(where: Bool[Array, "batch h w 1"], batch: Batch) -> Bool[Array, "batch h w c"]:
    """Return where pixels count: those of `where` that were observed."""
    where = jnp.broadcast_to(where, batch.x.shape)
    return where if batch.mask is None else where & batch.mask
