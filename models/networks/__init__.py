"""Configs of encoders and decoders, and the networks they make. Sizes are inferred from the data's shape."""

from models.networks.conv import Conv
from models.networks.decoder import Decoder
from models.networks.dense import Dense
from models.networks.encoder import Encoder
from models.networks.mirror import Mirror, mirrored

__all__ = ["Conv", "Decoder", "Dense", "Encoder", "Mirror", "mirrored"]
