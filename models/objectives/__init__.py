"""Objectives: configs that are called with (model, batch, key) and return a loss per example, its terms and the pass.

The loss is a sum over the event, never a mean over pixels or codes; whoever trains takes the mean over the
batch. Three things are random and separate: corruption belongs to the objective, sampling of the code to the
posterior, dropout and batch statistics to `training`. Keys for all come from the one key given.

    objective(model, batch, key, training=True) -> loss (batch,), {term: (batch,)}, Pass
    objective.at(step)                          -> the objective of that step: the only schedule
    objective.criterion(metrics)                -> what early stopping minimises
"""

from models.objectives.corruption import corrupt
from models.objectives.denoising import Denoising
from models.objectives.elbo import ELBO, ramp
from models.objectives.passing import reconstruction_error, run
from models.objectives.reconstruction import Reconstruction
from models.objectives.sampling import Sampling

Objective = Reconstruction | Denoising | ELBO | Sampling

__all__ = [
    "ELBO",
    "Denoising",
    "Objective",
    "Reconstruction",
    "Sampling",
    "corrupt",
    "ramp",
    "reconstruction_error",
    "run",
]
