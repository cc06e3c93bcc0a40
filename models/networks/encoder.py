"""From an example to the numbers of its posterior: layers, then one affine head."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.networks.layers import Block, Linear
from models.networks.layers.convolution import Conv2d


def layer_keys(key: PRNGKeyArray | None, n: int) -> list[Any]:
    """Return one key per layer, or `n` times None."""
    return [None] * n if key is None else list(jax.random.split(key, n)) if n else []


class Encoder(nnx.Module):
    """Convolutions (if any), hidden layers and head: (batch, *shape) -> (batch, outputs).

    `extra` numbers per example (a label, one-hot) stand beside the flat features.
    """

    def __init__(self, cfg: Any, shape: tuple[int, ...], outputs: int, *, extra: int = 0, rngs: nnx.Rngs):
        convolutions, width = [], math.prod(shape)
        if sizes := cfg.image_sizes(shape):
            taps = cfg.taps(shape)
            for inputs, features in zip((shape[-1], *cfg.channels[:-1]), cfg.channels, strict=True):
                layer = Conv2d(inputs, features, taps, cfg.stride, rngs=rngs)
                convolutions.append(Block(layer, features, cfg))
            width = math.prod(sizes[-1]) * cfg.channels[-1]
        width += extra
        hidden = []
        for features in cfg.hidden:
            hidden.append(Block(Linear(width, features, rngs=rngs), features, cfg))
            width = features
        self.convolutions, self.hidden = nnx.List(convolutions), nnx.List(hidden)
        self.head = Linear(width, outputs, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "batch *shape"],
        key: PRNGKeyArray | None = None,
        extra: Float[Array, "batch extra"] | None = None,
        kept: list[Any] | None = None,
    ) -> Float[Array, "batch outputs"]:
        """Return the head's numbers; a key means training mode (dropout, batch statistics).

        kept: a list that receives what each hidden layer gives to its activation, where no norm stands between.
        """
        keys = layer_keys(key, len(self.convolutions) + len(self.hidden))
        if self.convolutions and x.ndim == 3:
            x = x[:, :, None]  # a series: one column
        for block in self.convolutions:
            x = block(x, keys.pop(0))
        x = x.reshape(x.shape[0], -1)
        if extra is not None:
            x = jnp.concatenate([x, extra.astype(x.dtype)], 1)
        for block in self.hidden:
            x = block(x, keys.pop(0), kept=kept)
        return self.head(x)

    def kernels(self, latent: int) -> list[Array]:
        """Return every kernel from data to code, the head's cut to the `latent` columns of the mean."""
        blocks = [*self.convolutions, *self.hidden]
        return [*(block.layer.kernel[...] for block in blocks), self.head.kernel[...][:, :latent]]
