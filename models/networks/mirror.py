"""A decoder that is its encoder reversed."""

from typing import Any

from flax import nnx

from models.batch import Sizes
from models.config import config
from models.networks.decoder import Decoder


@config
class Mirror:
    """The encoder reversed: same widths, channels, activation, norm and dropout."""

    tied: bool = False
    """use the encoder's weights, transposed (x @ kernel.T; biases are the decoder's own)"""

    def build_decoder(self, inputs: int, sizes: Sizes, channels: int, rngs: nnx.Rngs, encoder: Any) -> Any:
        """Return the network from code to the likelihood's numbers that reverses `encoder`, a config."""
        if not self.tied:
            return encoder.mirrored().build_decoder(inputs, sizes, channels, rngs, encoder)
        return Decoder(encoder.mirrored(), inputs, sizes.shape, channels, tied=True, rngs=rngs)
