"""Likelihoods that are mixtures: of rounded logistic variables, of normals for the moves of a pen."""

from models.likelihoods.mixtures.logistics import LogisticMixtureLikelihood
from models.likelihoods.mixtures.strokes import StrokesLikelihood

__all__ = ["LogisticMixtureLikelihood", "StrokesLikelihood"]
