"""Terms: what is added to an objective's loss, `weight * term(pass, net)`, and penalties on weights.

    term(pass, net)                -> (batch,), a property of each example, or of the batch (then the same for all)
    term.weight                    -> its factor in the loss (traced, may be swept)
    term.matches_prior             -> true where it draws codes to the prior, so that draws of that decode to examples

A term that has a network of its own, trained against the model, has two more:

    build(sizes, latent, rngs)     -> the network, `net` in every call (None for the other terms)
    opponent(pass, net)            -> (batch,), what the network minimises
"""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array

from models.batch import Pass
from models.terms.adversarial import Adversarial
from models.terms.code_norm import CodeNorm
from models.terms.commitment import Commitment
from models.terms.dictionary import Gate, Nested, Revive
from models.terms.dip import DIP
from models.terms.geometry import (
    Contractive,
    FlatMetric,
    HessianPenalty,
    Implicit,
    Isometric,
    LogVolume,
    Orthogonal,
    SparseJacobian,
    Spectral,
    WrongPenaltyError,
    check_penalty,
)
from models.terms.mmd import MMD
from models.terms.sliced_wasserstein import SlicedWasserstein
from models.terms.sparsity import Sparsity
from models.terms.total_correlation import TotalCorrelation
from models.terms.weights import is_kernel, weight_penalty


@runtime_checkable
class OwnTerm(Protocol):
    """A term of the user's own, given from Python: any `@config` with a weight that can be called."""

    weight: Any

    def __call__(self, done: Pass, net: Any) -> Array:
        """Return the term of each example."""


Term = (
    Sparsity
    | CodeNorm
    | Commitment
    | MMD
    | SlicedWasserstein
    | TotalCorrelation
    | DIP
    | Adversarial
    | Contractive
    | Isometric
    | FlatMetric
    | Orthogonal
    | LogVolume
    | HessianPenalty
    | Spectral
    | Implicit
    | SparseJacobian
    | Nested
    | Revive
    | Gate
    | OwnTerm
)

__all__ = [
    "DIP",
    "MMD",
    "Adversarial",
    "CodeNorm",
    "Commitment",
    "Contractive",
    "FlatMetric",
    "Gate",
    "HessianPenalty",
    "Implicit",
    "Isometric",
    "LogVolume",
    "Nested",
    "Orthogonal",
    "OwnTerm",
    "Revive",
    "SlicedWasserstein",
    "SparseJacobian",
    "Sparsity",
    "Spectral",
    "Term",
    "TotalCorrelation",
    "WrongPenaltyError",
    "check_penalty",
    "is_kernel",
    "weight_penalty",
]
