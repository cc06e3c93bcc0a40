"""A decoder that is a dictionary: an example is a sparse sum of columns, and the encoder looks through it.

x = bias + Σ_j z_j column_j. With an encoder of one affine layer and posterior point, jump or gated these are the sparse
autoencoders by which a network's activations are read (Bricken et al. 2023, Towards monosemanticity; Gao et al. 2024).
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.batch import Batch, Sizes
from models.config import ConfigError, config, kind, setting
from models.networks.dense import Dense
from models.networks.held import Held


@config
class Dictionary:
    """A sum of columns, one for each unit of the code, plus a bias that the encoder may see taken off."""

    unit_norm: bool = True
    """columns of length 1, whatever the parameters' own length: no penalty on codes can be had by longer columns"""
    tied_start: bool = True
    """the encoder starts as the columns, transposed (without `inputs`); it is free from there on"""
    centred: bool = True
    """the encoder sees x - bias"""
    inputs: int = setting(0, at_least=0)
    """a transcoder: the encoder sees the first so many values, all others are decoded; 0: sees and decodes all"""
    share: float = setting(1.0, above=0, at_most=1)
    """share of the units that exist, the first ones: traced, so that one program trains dictionaries of many widths"""

    def fits(self, model: Any) -> None:
        """Raise ConfigError for a model that a dictionary is no decoder of."""
        if model.posterior.numbers(model.latent) != model.latent:
            raise ConfigError(
                f"decoder dictionary adds up units of one number each, got posterior {kind(type(model.posterior))}: "
                "use posterior point, jump or gated, or decoder dense"
            )
        channels = model.likelihood.channels()
        if channels != 1 or model.labels != "none":
            why = f"labels {model.labels}" if channels == 1 else f"likelihood {kind(type(model.likelihood))}"
            raise ConfigError(
                f"decoder dictionary gives one number per value and sees no labels, got {why}: use likelihood normal "
                "and labels none, or decoder dense"
            )
        if self.tied_start and not self.inputs and not (isinstance(model.encoder, Dense) and not model.encoder.hidden):
            raise ConfigError(
                "decoder dictionary starts its encoder as its own columns, so that must be one affine layer: use "
                "encoder dense with hidden empty, or decoder.tied_start=False"
            )

    def build_decoder(self, inputs: int, sizes: Sizes, channels: int, rngs: nnx.Rngs, encoder: Any) -> "Columns":
        """Return the module. Raises ConfigError where no value is left to decode."""
        values = 1
        for side in sizes.shape:
            values *= side
        if self.inputs >= values:
            raise ConfigError(f"decoder.inputs must be below the {values} values of an example, got {self.inputs}")
        return Columns(self, inputs, sizes.shape, values, rngs=rngs)


class Columns(nnx.Module):
    """kernel (latent, decoded values), a column of the dictionary a row; bias (values,); steps since a unit's use."""

    def __init__(self, cfg: Dictionary, latent: int, shape: tuple[int, ...], values: int, *, rngs: nnx.Rngs):
        self.held, self.shape, self.latent, self.inputs = Held(cfg), shape, latent, cfg.inputs
        self.unit_norm, self.tied_start, self.centred = cfg.unit_norm, cfg.tied_start and not cfg.inputs, cfg.centred
        rows = nnx.initializers.normal()(rngs.params(), (latent, values - cfg.inputs))
        self.kernel = nnx.Param(rows / jnp.linalg.norm(rows, axis=1, keepdims=True))
        self.bias = nnx.Param(jnp.zeros(values))
        self.idle = nnx.BatchStat(jnp.zeros(latent, jnp.int32))

    def columns(self) -> Float[Array, "latent decoded"]:
        """Return the columns, one a row."""
        rows = self.kernel[...]
        if not self.unit_norm:
            return rows
        return rows / jnp.maximum(jnp.linalg.norm(rows, axis=1, keepdims=True), jnp.finfo(rows.dtype).tiny)

    def start_encoder(self, encoder: Any) -> None:
        """Let the encoder's head start as the columns, transposed."""
        if self.tied_start:
            encoder.head.kernel[...] = self.columns().T

    def seen(self, x: Float[Array, "batch *shape"]) -> Float[Array, "batch *shape"]:
        """Return what the encoder sees of x: less the bias, and 0 where a value is a transcoder's target."""
        flat = x.reshape(x.shape[0], -1)
        flat = flat - self.bias[...][None].astype(flat.dtype) if self.centred else flat
        return (jnp.where(self.is_input[None], flat, 0) if self.inputs else flat).reshape(x.shape)

    @property
    def is_input(self) -> Array:
        """Whether a value is one that a transcoder sees, (values,)."""
        return jnp.arange(self.bias[...].shape[0]) < self.inputs

    def target(self, batch: Batch) -> Batch:
        """Return the batch with what is not to be decoded hidden."""
        if not self.inputs:
            return batch
        mask = jnp.broadcast_to(~self.is_input.reshape(1, *self.shape), batch.x.shape)
        mask = mask if batch.mask is None else mask & batch.mask
        return batch._replace(mask=mask, x=jnp.where(mask, batch.x, 0))

    def limited(self, numbers: Float[Array, "batch numbers"]) -> Float[Array, "batch numbers"]:
        """Return the encoder's numbers with 0 for units that do not exist."""
        exists = jnp.arange(self.latent) < jnp.round(self.held().share * self.latent)
        return jnp.where(exists[None], numbers, 0)

    def part(self, z: Float[Array, "batch latent"]) -> Float[Array, "batch *shape"]:
        """Return Σ_j z_j column_j, without the bias; 0 at a transcoder's inputs."""
        out = z @ self.columns().astype(z.dtype)
        return jnp.pad(out, ((0, 0), (self.inputs, 0))).reshape(z.shape[0], *self.shape)

    def __call__(
        self, z: Float[Array, "batch latent"], key: PRNGKeyArray | None = None, encoder: Any = None
    ) -> Float[Array, "batch *shape 1"]:
        """Return the sum of columns; with a key (training) the steps since a unit was used go on."""
        if key is not None:
            used = jnp.any(z != 0, axis=0)
            self.idle[...] = jnp.where(used, 0, self.idle[...] + 1)
        return (self.part(z) + self.bias[...].reshape(1, *self.shape).astype(z.dtype))[..., None]

    def set_bias(self, bias: Float[Array, "*shape 1"]) -> None:
        """Start from the output `bias`."""
        self.bias[...] = bias.reshape(-1).astype(self.bias[...].dtype)
