"""Data sets: `load(name, ...)` returns a `Dataset`. The rules are in data/README.md."""

from data.dataset import Dataset, Split
from data.errors import DataError, UnknownDataset
from data.files.read import read
from data.load import NAMES, load
from data.options import Options
from data.scale import Scale
from data.stream import Stream, stream

__all__ = [
    "NAMES",
    "DataError",
    "Dataset",
    "Options",
    "Scale",
    "Split",
    "Stream",
    "UnknownDataset",
    "load",
    "read",
    "stream",
]
