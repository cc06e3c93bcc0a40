"""Trained runs: loaded for use, and exported."""

from training.trained.run import FittedRun, LoadedRun, load

__all__ = ["FittedRun", "LoadedRun", "load"]
