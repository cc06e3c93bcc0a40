"""Priors p(z): a batch of one, which serves every example, or one per example where it depends on the label.

build(latent, sizes, rngs)     -> a module with the parameters the kind needs (`Held(self)` where none)
module(model, label, key)      -> p(z); the key is for what is random in it, not for training mode
"""

from models.priors.chain import ChainPrior
from models.priors.codes import CodesPrior, UniformCodes
from models.priors.deeper import DeeperPrior
from models.priors.fitted import FittedKind, fit_prior, with_prior_module
from models.priors.flow import FlowPrior
from models.priors.in_turn import AutoregressivePrior
from models.priors.labelled import LabelledPrior
from models.priors.mixture import MixturePrior, Normals
from models.priors.sphere import SpherePrior
from models.priors.standard import StandardPrior, standard_normal
from models.priors.vamp import VampPrior

Prior = (
    StandardPrior
    | MixturePrior
    | VampPrior
    | FlowPrior
    | LabelledPrior
    | CodesPrior
    | SpherePrior
    | ChainPrior
    | DeeperPrior
    | AutoregressivePrior
)

__all__ = [
    "AutoregressivePrior",
    "ChainPrior",
    "CodesPrior",
    "DeeperPrior",
    "FittedKind",
    "FlowPrior",
    "LabelledPrior",
    "MixturePrior",
    "Normals",
    "Prior",
    "SpherePrior",
    "StandardPrior",
    "UniformCodes",
    "VampPrior",
    "fit_prior",
    "standard_normal",
    "with_prior_module",
]
