"""Objectives: configs that are called with (model, batch, key) and return a loss per example, its terms and the pass.

The loss is a sum over the event, never a mean over pixels or codes; whoever trains takes the mean over the
batch. Three things are random and separate: corruption belongs to the objective, sampling of the code to the
posterior, dropout and batch statistics to `training`. Keys for all come from the one key given.

    objective(model, batch, key, training=True) -> loss (batch,), {term: (batch,)}, Pass
    objective.at(step)                          -> the objective of that step: the only schedule
    objective.criterion(metrics)                -> what early stopping minimises
"""

from typing import Any

from models.objectives.bound import Bound
from models.objectives.corruption import corrupt
from models.objectives.denoising import Denoising
from models.objectives.elbo import ELBO, ramp
from models.objectives.masked import Masked
from models.objectives.passing import reconstruction_error, run
from models.objectives.reconstruction import Reconstruction
from models.objectives.sampling import Sampling
from models.objectives.semisupervised import SemiSupervised


def sparse_as_term(values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an earlier version's run: its sparse objective was a reconstruction with a term."""
    objective = values.get("objective")
    if not isinstance(objective, dict) or str(objective.get("kind")).lower() != "sparse":
        return values
    sparsity = {name: value for name, value in objective.items() if name not in ("kind", "error")}
    reconstruction = {"kind": "Reconstruction", "error": objective.get("error", "squared")}
    return values | {"objective": reconstruction, "terms": [sparsity | {"kind": "Sparsity"}]}


Objective = Reconstruction | Denoising | Masked | ELBO | Bound | SemiSupervised | Sampling

__all__ = [
    "ELBO",
    "Bound",
    "Denoising",
    "Masked",
    "Objective",
    "Reconstruction",
    "Sampling",
    "SemiSupervised",
    "corrupt",
    "ramp",
    "reconstruction_error",
    "run",
    "sparse_as_term",
]
