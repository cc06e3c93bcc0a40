"""Networks of steps: recurrent cells and transformers with variable length, and transformers over patches."""

from models.networks.sequences.recurrent import Recurrent
from models.networks.sequences.transformer import Transformer
from models.networks.sequences.vit import ViT

__all__ = ["Recurrent", "Transformer", "ViT"]
