"""What compression by a model spends, beside general compressors."""

import bz2
import gzip
import io
from typing import Any

import numpy as np

from models.metrics.basic import per_example
from models.metrics.compression.coder import coder_for, popped, pushed
from models.metrics.compression.file import levels_of
from models.metrics.estimates import Measured, jackknife, mean_of
from models.metrics.subject import Subject

UNIT = "bits per value"


def compression(subject: Subject) -> dict[str, Measured]:
    """Return the bits per value that the examples take, as they were coded and decoded again.

    compression_bits: net, over groups of examples; compression_file_bits: of the whole stack, with the random bits
    that it began with; negative_elbo_bits: what an ideal coder on a continuum would spend, by one draw an example.
    gzip, bz2: of all examples in one stream (bits packed where there are two levels); png, webp: lossless, one picture
    a file. compression_exact: share of the values that came back.
    """
    model = subject.model
    symbols = levels_of(model, subject.test.batch.x)
    coder = coder_for(model, symbols)
    stack, _, sizes = pushed(coder, symbols)
    words = stack.words
    back = popped(coder, words, len(symbols))
    values = symbols.shape[1]
    counts = np.asarray([len(range(len(symbols))[group]) for group in coder.groups(len(symbols))])
    found = {
        "compression_bits": jackknife(lambda g: float(sizes[g].sum() / (counts[g].sum() * values)), len(sizes), UNIT),
        "compression_file_bits": Measured(32 * len(words) / symbols.size, UNIT, None),
        "compression_exact": Measured(float((back == symbols).mean()), "share", None),
    }
    if subject.dense:
        bound = subject.each(lambda m, b, k: per_example(m, b, k)["negative_elbo_nats"], "compression")
        found["negative_elbo_bits"] = mean_of(bound / np.log(2) / values, UNIT)
    return found | general(symbols, model.shape)


def general(symbols: np.ndarray, shape: tuple[int, ...]) -> dict[str, Measured]:
    """Return what general compressors spend on the same symbols; pictures where the examples are some."""
    two, n = bool(symbols.max() <= 1), symbols.size
    small = np.uint8 if symbols.max() < 256 else np.uint16
    stream = (np.packbits(symbols) if two else symbols.astype(small)).tobytes()
    sizes = {"gzip_bits": len(gzip.compress(stream, 9, mtime=0)), "bz2_bits": len(bz2.compress(stream, 9))}
    found = {name: Measured(8 * size / n, UNIT, None) for name, size in sizes.items()}
    if len(shape) != 3 or shape[2] not in (1, 3) or symbols.max() > 255:
        return found
    stretch = 255 // max(1, int(symbols.max()))
    pictures = (symbols * stretch).astype(np.uint8).reshape(-1, *shape)
    for name, how in (("png", {"optimize": True}), ("webp", {"lossless": True, "quality": 100})):
        each = np.asarray([_picture_bytes(one, name, how, two) for one in pictures])
        found[f"{name}_bits"] = mean_of(8 * each / symbols.shape[1], UNIT)
    return found


def _picture_bytes(picture: np.ndarray, name: str, how: dict[str, Any], two: bool) -> int:
    from PIL import Image

    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    if two and name == "png":
        image = image.convert("1")
    out = io.BytesIO()
    image.save(out, name, **how)
    return len(out.getvalue())
