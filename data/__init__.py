"""Data sets: `load(name, ...)` returns a `Dataset`. The rules are in data/README.md."""

from data.dataset import DataError, Dataset, Split, UnknownDataset
from data.load import NAMES, load
from data.stream import Stream, stream

__all__ = ["NAMES", "DataError", "Dataset", "Split", "Stream", "UnknownDataset", "load", "stream"]
