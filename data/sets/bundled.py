"""Sets that need no file of the user's: scikit-learn's digits and the generated sprites."""

import importlib.util
from pathlib import Path

from data.dataset import Dataset, Split, array_digests, digest
from data.errors import DataError
from data.sets import parsers, sprites
from data.splits import Interleaved, Stratified

_DIGITS, _SPRITES = Stratified(validation=147, test=450), Interleaved(7)


def load_digits() -> Dataset:
    """Return the 1,797 real handwritten digits that come with scikit-learn: 8 x 8, values 0..16, 10 classes.

    The file is read where scikit-learn is installed, without importing it (that would take a second). The
    split is random within each class, so a writer's digits may be in several splits.
    """
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise DataError("digits: scikit-learn is not installed; run: pip install scikit-learn")
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():
        content = path.read_bytes()
        splits, sha256 = _DIGITS(parsers.digits(content)), {path.name: digest(content)}
    else:
        from sklearn.datasets import load_digits as original

        table = original()
        splits = _DIGITS({"all": (table.images[..., None].astype("uint8"), table.target)})
        sha256 = array_digests(splits)
    return Dataset("digits", "bundled with scikit-learn", splits, (8, 8, 1), (0, 16), 10, sha256, notes=_DIGITS.words)


def load_sprites() -> Dataset:
    """Return the generated sprites: 32 x 32, 3 shapes as labels, five factors in `Split.factors`."""
    x, factors = sprites.generate()
    splits = {key: Split(x[take], factors[take, 0], factors[take]) for key, take in _SPRITES.indices(len(x)).items()}
    names = tuple(sprites.FACTORS)
    shape = (sprites.SIZE, sprites.SIZE, 1)
    notes, sha256 = f"every combination once; {_SPRITES.words}", array_digests(splits)
    return Dataset("sprites", "generated", splits, shape, (0, 255), 3, sha256, notes=notes, factor_names=names)
