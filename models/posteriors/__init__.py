"""Posteriors q(z|x): how many numbers the encoder's head gives, and the distribution that they make.

numbers(latent)                -> int, outputs of the encoder's head
build(latent, rngs)            -> a module with the parameters the kind needs (`Held(self)` where none)
module(numbers, model, key)    -> q(z|x); a key means training mode (state may move)
"""

from models.posteriors.chain import ChainPosterior
from models.posteriors.flow import FlowPosterior
from models.posteriors.fsq import FSQPosterior
from models.posteriors.full import FullPosterior
from models.posteriors.gates import GatedPosterior, JumpPosterior
from models.posteriors.gumbel import GumbelPosterior
from models.posteriors.hamiltonian import HamiltonianPosterior
from models.posteriors.low_rank import LowRankPosterior
from models.posteriors.normal import NormalPosterior
from models.posteriors.point import PointPosterior
from models.posteriors.vmf import VMFPosterior
from models.posteriors.vq import VQPosterior

Posterior = (
    PointPosterior
    | NormalPosterior
    | FullPosterior
    | LowRankPosterior
    | FlowPosterior
    | VMFPosterior
    | VQPosterior
    | FSQPosterior
    | GumbelPosterior
    | ChainPosterior
    | HamiltonianPosterior
    | JumpPosterior
    | GatedPosterior
)

__all__ = [
    "ChainPosterior",
    "FSQPosterior",
    "FlowPosterior",
    "FullPosterior",
    "GatedPosterior",
    "GumbelPosterior",
    "HamiltonianPosterior",
    "JumpPosterior",
    "LowRankPosterior",
    "NormalPosterior",
    "PointPosterior",
    "Posterior",
    "VMFPosterior",
    "VQPosterior",
]
