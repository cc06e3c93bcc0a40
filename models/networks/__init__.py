"""Encoders and decoders: their configs, and the networks they make. Sizes are inferred from the data's shape.

    build_encoder(sizes, numbers, extra, rngs)             -> (x (b, *shape), key, extra (b, e) | None) -> (b, numbers)
    build_decoder(inputs, sizes, channels, rngs, encoder)  -> (z (b, inputs), key, encoder) -> (b, *shape, channels)
    mirrored()                                             -> the config of the decoder that reverses an encoder

`encoder` is the encoder's config when a decoder is built, its module when it is called: a mirror needs both.
"""

from models.networks.conv import Conv
from models.networks.decoder import Decoder
from models.networks.dense import Bag, Dense
from models.networks.dictionary import Dictionary
from models.networks.encoder import Encoder
from models.networks.mirror import Mirror
from models.networks.nothing import Nothing
from models.networks.sequences import Recurrent, Transformer, ViT

__all__ = [
    "Bag",
    "Conv",
    "Decoder",
    "Dense",
    "Dictionary",
    "Encoder",
    "Mirror",
    "Nothing",
    "Recurrent",
    "Transformer",
    "ViT",
]
