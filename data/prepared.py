"""Prepared TFDS folders (placeholder until the reader is written)."""

from pathlib import Path
from data.dataset import Parts


def roots(data_dir: Path | None, cache: Path) -> list[Path]:
    """Roots."""
    return []


def find(builder: str, roots: list[Path]) -> Path | None:
    """Find."""
    return None


def read_named(folder: Path, builder: str) -> Parts:
    """Read."""
    raise NotImplementedError
