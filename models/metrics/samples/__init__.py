"""Samples of a model beside the data: distances between features of our own classifier, precision and recall."""

from models.metrics.samples.classifier import features_by
from models.metrics.samples.distances import frechet, kernel_mmd, precision_and_recall
from models.metrics.samples.measured import samples

__all__ = ["features_by", "frechet", "kernel_mmd", "precision_and_recall", "samples"]
