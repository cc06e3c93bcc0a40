"""Networks that read and write one step at a time: recurrent cells and transformers, with variable length."""

from models.networks.sequences.recurrent import Recurrent
from models.networks.sequences.transformer import Transformer

__all__ = ["Recurrent", "Transformer"]
