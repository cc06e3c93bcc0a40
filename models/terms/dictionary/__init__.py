"""Terms of sparse dictionaries: nested widths, revival of dead units, the error of gates."""

from models.terms.dictionary.gate import Gate
from models.terms.dictionary.nested import Nested
from models.terms.dictionary.revive import Revive

__all__ = ["Gate", "Nested", "Revive"]
