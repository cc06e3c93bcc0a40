"""From a data set's name to what a run reads, and from a config as asked to one that fits the data."""

from training.inputs.read import DATA_FIELDS, Inputs, labels_of, load_inputs, needs_labels
from training.inputs.resolve import resolved

__all__ = ["DATA_FIELDS", "Inputs", "labels_of", "load_inputs", "needs_labels", "resolved"]
