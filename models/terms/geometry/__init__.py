"""Terms that look at Jacobians: the one place, with its metrics, where models use `grads`."""

from models.terms.geometry.check import WrongPenaltyError, check_penalty
from models.terms.geometry.columns import Orthogonal, SparseJacobian
from models.terms.geometry.contractive import Contractive
from models.terms.geometry.curvature import HessianPenalty
from models.terms.geometry.implicit import Implicit
from models.terms.geometry.isometric import FlatMetric, Isometric
from models.terms.geometry.spectral import Spectral
from models.terms.geometry.volume import LogVolume

__all__ = [
    "Contractive",
    "FlatMetric",
    "HessianPenalty",
    "Implicit",
    "Isometric",
    "LogVolume",
    "Orthogonal",
    "SparseJacobian",
    "Spectral",
    "WrongPenaltyError",
    "check_penalty",
]
