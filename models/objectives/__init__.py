"""Objectives: configs that are called with (model, x, key) and return a loss per example with its terms.

The loss is a sum over the event, never a mean over pixels or codes; whoever trains takes the mean over the
batch. Three things are random and separate: corruption belongs to the objective, sampling of the code to the
posterior, dropout and batch statistics to `training`. Keys for all come from the one key given.
"""

from models.objectives.corruption import corrupt
from models.objectives.denoising import Denoising
from models.objectives.elbo import ELBO, ramp
from models.objectives.passing import reconstruction_error, run
from models.objectives.reconstruction import Reconstruction
from models.objectives.sparse import Sparse

Objective = Reconstruction | Denoising | Sparse | ELBO

__all__ = [
    "ELBO",
    "Denoising",
    "Objective",
    "Reconstruction",
    "Sparse",
    "corrupt",
    "ramp",
    "reconstruction_error",
    "run",
]
