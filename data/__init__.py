"""Data sets: `load(name, ...)` returns a `Dataset`. The rules are in data/README.md."""

from data.dataset import DataError, Dataset, Split
from data.loading import NAMES, load

__all__ = ["NAMES", "DataError", "Dataset", "Split", "load"]
