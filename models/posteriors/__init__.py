"""Posteriors q(z|x): how many numbers the encoder's head gives, and the distribution that they make.

    numbers(latent)                -> int, outputs of the encoder's head
    build(latent, rngs)            -> a module with the parameters the kind needs (`Held(self)` where none)
    module(numbers, model, key)    -> q(z|x); a key means training mode (state may move)
"""

from models.posteriors.normal import Normal
from models.posteriors.point import Point

Posterior = Point | Normal

__all__ = ["Normal", "Point", "Posterior"]
