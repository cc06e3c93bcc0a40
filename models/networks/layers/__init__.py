"""The pieces of every network: affine maps (free or tied), convolutions, normalisation, activation, dropout."""

from models.networks.layers.activation import ACTIVATIONS, activation, identity
from models.networks.layers.affine import Linear, TiedConvTranspose, TiedLinear
from models.networks.layers.block import Block, dropout
from models.networks.layers.convolution import Conv2d, ConvTranspose2d, convolution_implementation
from models.networks.layers.norm import BatchNorm, LayerNorm

__all__ = [
    "ACTIVATIONS",
    "BatchNorm",
    "Block",
    "Conv2d",
    "ConvTranspose2d",
    "LayerNorm",
    "Linear",
    "TiedConvTranspose",
    "TiedLinear",
    "activation",
    "convolution_implementation",
    "dropout",
    "identity",
]
