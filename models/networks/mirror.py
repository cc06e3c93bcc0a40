"""A decoder that is its encoder reversed."""

import dataclasses

from models.config import config
from models.networks.conv import Conv
from models.networks.dense import Dense


@config
class Mirror:
    """The encoder reversed: same widths, channels, activation, norm and dropout."""

    tied: bool = False
    """use the encoder's weights, transposed (x @ kernel.T; biases are the decoder's own)"""


def mirrored(encoder: Dense | Conv) -> Dense | Conv:
    """Return the decoder config that reverses `encoder`."""
    if isinstance(encoder, Conv):
        return dataclasses.replace(encoder, channels=encoder.channels[::-1], hidden=encoder.hidden[::-1])
    return dataclasses.replace(encoder, hidden=encoder.hidden[::-1])
