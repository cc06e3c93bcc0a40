"""Lossless compression by a trained model: bits back for continuous codes, plain coding for chosen ones, to a file."""

from models.metrics.compression.file import compressed, decompressed
from models.metrics.compression.measured import compression, general
from models.metrics.compression.moves import why_not

__all__ = ["compressed", "compression", "decompressed", "general", "why_not"]
