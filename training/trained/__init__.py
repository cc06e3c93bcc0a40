"""Trained runs: loaded for use, and exported."""

from training.trained.loading import load
from training.trained.run import FittedRun, LoadedRun

__all__ = ["FittedRun", "LoadedRun", "load"]
