"""Images from a folder with one subfolder per class."""

from pathlib import Path

import numpy as np

from data.dataset import DataError

KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")


def read_images(folder: Path) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Return images (n, H, W, C) uint8, labels and class names of a folder; classes are subfolders, sorted.

    Images of mode 1 or L are grey (C = 1), others RGB. Raises DataError when there are none, when sizes or
    channels differ (naming two files), or when a file cannot be decoded.
    """
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    places = [folder / c for c in classes] or [folder]
    files = [
        (p, k)
        for k, place in enumerate(places)
        for p in sorted(place.iterdir())
        if p.suffix.lower() in KINDS and not p.name.startswith(".")
    ]
    if not files:
        raise DataError(
            f"{folder}: no images ({', '.join(KINDS)}) in {'its class folders' if classes else 'it'}"
        )
    images: list[np.ndarray] = []
    for path, _ in files:
        image = _decode(path)
        if images and image.shape != images[0].shape:
            raise DataError(
                f"{folder}: images differ: {path.relative_to(folder)} is {image.shape}, "
                f"{files[0][0].relative_to(folder)} is {images[0].shape} (height, width, channels)"
            )
        images.append(image)
    labels = np.array([k for _, k in files], np.int32) if classes else None
    return np.stack(images), labels, classes


def _decode(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            grey = image.mode in ("1", "L")
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image ({error})") from None
    return pixels[..., None] if grey else pixels
