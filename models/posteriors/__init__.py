"""Posteriors q(z|x): how many numbers the encoder's head gives, and the distribution that they make.

    numbers(latent)                -> int, outputs of the encoder's head
    build(latent, rngs)            -> a module with the parameters the kind needs (`Held(self)` where none)
    module(numbers, model, key)    -> q(z|x); a key means training mode (state may move)
"""

from models.posteriors.full import Full
from models.posteriors.low_rank import LowRank
from models.posteriors.normal import Normal
from models.posteriors.point import Point

Posterior = Point | Normal | Full | LowRank

__all__ = ["Full", "LowRank", "Normal", "Point", "Posterior"]
