"""Priors p(z): a batch of one, which serves every example, or one per example where it depends on the label.

    build(latent, sizes, rngs)     -> a module with the parameters the kind needs (`Held(self)` where none)
    module(model, label, key)      -> p(z); the key is for what is random in it, not for training mode
"""

from models.priors.chain import Chain
from models.priors.codes import Codes, UniformCodes
from models.priors.deeper import Deeper
from models.priors.flow import Flow
from models.priors.labelled import Labelled
from models.priors.mixture import Mixture, Normals
from models.priors.sphere import Sphere
from models.priors.standard import Standard, standard_normal
from models.priors.vamp import Vamp

Prior = Standard | Mixture | Vamp | Flow | Labelled | Codes | Sphere | Chain | Deeper

__all__ = [
    "Chain",
    "Codes",
    "Deeper",
    "Flow",
    "Labelled",
    "Mixture",
    "Normals",
    "Prior",
    "Sphere",
    "Standard",
    "UniformCodes",
    "Vamp",
    "standard_normal",
]
