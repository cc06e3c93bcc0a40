"""From a code to the likelihood's numbers: the encoder's steps in reverse order."""

import itertools
import math
from typing import Any

from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.networks.encoder import layer_keys
from models.networks.layers import Block, ConvTranspose2d, Linear, TiedConvTranspose, TiedLinear


class Decoder(nnx.Module):
    """Hidden layers and transposed convolutions (if any): (batch, latent) -> (batch, *shape, channels).

    `channels` numbers per value of the example. With `tied`, layers own biases only and use the kernels of the
    encoder that every call is given. Images of any size are hit exactly: each transposed convolution is told its size.
    """

    def __init__(
        self,
        cfg: Any,
        latent: int,
        shape: tuple[int, ...],
        channels: int,
        *,
        tied: bool = False,
        rngs: nnx.Rngs,
    ):
        self.shape, self.channels, self.latent, self.tied = shape, channels, latent, tied
        widths, steps = [latent, *cfg.hidden], []
        self.sizes: tuple[tuple[int, int], ...] = ()
        if sizes := cfg.image_sizes(shape)[::-1]:
            self.sizes = sizes
            widths.append(math.prod(sizes[0]) * cfg.channels[0])
            steps = list(zip(cfg.channels, (*cfg.channels[1:], shape[-1] * channels), strict=True))

        def linear(inputs: int, outputs: int) -> Any:
            return TiedLinear(outputs) if tied else Linear(inputs, outputs, rngs=rngs)

        def transposed(inputs: int, outputs: int) -> Any:
            if tied:
                return TiedConvTranspose(outputs, cfg.stride)
            return ConvTranspose2d(inputs, outputs, cfg.taps(shape), cfg.stride, rngs=rngs)

        pairs = itertools.pairwise(widths)
        self.hidden = nnx.List([Block(linear(i, o), o, cfg) for i, o in pairs])
        self.convolutions = nnx.List([Block(transposed(i, o), o, cfg) for i, o in steps[:-1]])
        self.last = transposed(*steps[-1]) if steps else linear(widths[-1], math.prod(shape) * channels)

    def __call__(
        self, z: Float[Array, "batch latent"], key: PRNGKeyArray | None = None, encoder: Any = None
    ) -> Float[Array, "batch *shape channels"]:
        """Return the likelihood's numbers; a key means training mode; `encoder`: whose kernels are used, if tied."""
        keys = layer_keys(key, len(self.hidden) + len(self.convolutions))
        kernels = encoder.kernels(self.latent) if self.tied else ()
        tied: list[Any] = [(k,) for k in kernels] or [()] * (len(keys) + 1)  # one per layer, taken from the end
        x = z
        for block in self.hidden:
            x = block(x, keys.pop(0), *tied.pop())
        if self.sizes:
            x = x.reshape(x.shape[0], *self.sizes[0], -1)
        for block, size in zip(self.convolutions, self.sizes[1:-1], strict=False):
            x = block(x, keys.pop(0), size, *tied.pop())
        x = self.last(x, *self.sizes[-1:], *tied.pop())
        return x.reshape(x.shape[0], *self.shape, self.channels)

    def set_bias(self, bias: Float[Array, "*shape channels"]) -> None:
        """Start from the output `bias`; a convolution has one per channel and takes the mean over pixels."""
        if self.sizes:
            bias = bias.mean(tuple(range(bias.ndim - 2)))
        self.last.bias[...] = bias.reshape(-1).astype(self.last.bias[...].dtype)
