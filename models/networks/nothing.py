"""No encoder: a model that only decodes, such as a GAN."""

from typing import Any

from flax import nnx

from models.batch import Sizes
from models.config import ConfigError, config
from models.networks.dense import Dense


@config
class Nothing:
    """No encoder: codes come from the prior alone, and `encode` refuses."""

    NAME = "none"

    def mirrored(self) -> Dense:
        """Return a decoder that stands by itself."""
        return Dense()  # type: ignore[call-arg]

    def build_encoder(self, sizes: Sizes, numbers: int, extra: int, rngs: nnx.Rngs) -> "NoEncoder":
        """Return a module that refuses."""
        return NoEncoder()


class NoEncoder(nnx.Module):
    """What stands in the encoder's place."""

    def __call__(self, x: Any, key: Any = None, extra: Any = None) -> Any:
        """Raise ConfigError."""
        raise ConfigError(
            "this model has no encoder (encoder none): it only samples, trained by objective sampling; for codes of "
            "examples train with encoder dense"
        )
