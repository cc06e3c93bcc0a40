"""Posteriors q(z|x): how many numbers the encoder's head gives, and the distribution that they make.

    numbers(latent)                -> int, outputs of the encoder's head
    build(latent, rngs)            -> a module with the parameters the kind needs (`Held(self)` where none)
    module(numbers, model, key)    -> q(z|x); a key means training mode (state may move)
"""

from models.posteriors.chain import Chain
from models.posteriors.flow import Flow
from models.posteriors.fsq import FSQ
from models.posteriors.full import Full
from models.posteriors.gumbel import Gumbel
from models.posteriors.low_rank import LowRank
from models.posteriors.normal import Normal
from models.posteriors.point import Point
from models.posteriors.vmf import VMF
from models.posteriors.vq import VQ

Posterior = Point | Normal | Full | LowRank | Flow | VMF | VQ | FSQ | Gumbel | Chain

__all__ = ["FSQ", "VMF", "VQ", "Chain", "Flow", "Full", "Gumbel", "LowRank", "Normal", "Point", "Posterior"]
