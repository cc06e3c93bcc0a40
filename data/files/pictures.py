"""One picture: from the bytes of a file to numbers (H, W, C); its mode decides the channels."""

import io
import stat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.errors import DataError, shown
from data.options import Options

KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
LARGEST = 2**26  # bytes of a file and pixels of a picture: 8,192 x 8,192


class Picture(NamedTuple):
    """Numbers (H, W, C) and what was done to get them."""

    pixels: np.ndarray
    remarks: tuple[str, ...] = ()


def read_file(path: Path) -> bytes:
    """Return a picture's bytes; DataError for what is no regular file (a pipe would wait for ever) or too large."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise DataError(f"{shown(path, 200)}: not a file that can be read; take it out of the folder")
        if about.st_size > LARGEST:
            raise DataError(f"{shown(path, 200)}: {about.st_size} bytes are too many for a picture")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{shown(path, 200)}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def decode(content: bytes, name: str, options: Options) -> Picture:
    """Return the numbers of a picture.

    Bits and 8-bit grey give one channel 0..255; 16-bit, 32-bit and float grey their own numbers; palettes and CMYK
    are turned into colours. EXIF orientation is applied. Alpha is dropped when constant, else refused unless
    `options.channels` says what to keep. `options.resize` averages over area. Raises DataError, naming the file, for
    damage and for modes without a plain meaning.
    """
    from PIL import Image, ImageOps

    where = shown(name, 200)
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > LARGEST:
                raise DataError(f"{where}: {image.width} x {image.height} pixels are too many")
            frames = getattr(image, "n_frames", 1)
            remarks = (f"the first of several frames ({image.format})",) if frames > 1 else ()
            image.load()
            turned = ImageOps.exif_transpose(image) or image
            plain, more = _plain(turned, where, options)
            pixels = _resized(plain, options)
    except DataError:
        raise
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error, EOFError ...
        raise DataError(f"{where}: not a readable image ({shown(error, 100)})") from None
    return Picture(pixels, (*remarks, *more))


def _plain(image: Any, where: str, options: Options) -> tuple[Any, tuple[str, ...]]:
    """Return a picture of mode L, RGB, I or F, and remarks."""
    mode = image.mode
    if mode in ("LAB", "HSV") or (mode not in _MODES and not mode.startswith("I;16")):
        raise DataError(f"{where}: pictures of mode {mode} are not read; convert them to grey or RGB")
    remarks: tuple[str, ...] = ()
    if mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        low, high = rgba.getchannel("A").getextrema()
        if low != high and not options.channels:
            raise DataError(
                f"{where}: its alpha channel varies ({low}..{high}); --channels 3 (or 1) drops it; "
                "or flatten the pictures"
            )
        remarks = ("alpha dropped",)
        grey = mode in ("LA", "La", "L", "1")
        image = image.convert("L") if grey and mode != "La" else rgba.convert("L" if grey else "RGB")
    elif mode == "P":
        remarks, image = ("palette expanded",), image.convert("RGB")
        if _is_grey(image):
            image = image.getchannel(0)
    elif mode in ("CMYK", "YCbCr", "RGBX"):
        remarks, image = (f"{mode} turned into RGB",), image.convert("RGB")
    elif mode == "1":
        image = image.convert("L")
    if options.channels == 1 and image.mode == "RGB":
        image, remarks = image.convert("L"), (*remarks, "colours turned into grey")
    if options.channels == 3 and image.mode != "RGB":
        if image.mode != "L":
            raise DataError(f"{where}: --channels 3 needs 8-bit pictures, this one is of mode {image.mode}")
        image, remarks = image.convert("RGB"), (*remarks, "grey turned into three channels")
    return image, remarks


_MODES = frozenset(("1", "L", "P", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LA", "La", "PA", "I", "F"))


def _is_grey(image: Any) -> bool:
    pixels = np.asarray(image)
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())


def _resized(image: Any, options: Options) -> np.ndarray:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 and 32 bits: resampling of these modes would clip or is not offered
        pixels: np.ndarray = np.asarray(image)
        if options.resize and pixels.shape != options.resize:
            pixels = np.asarray(
                Image.fromarray(pixels.astype(np.float32)).resize(options.resize[::-1], Image.Resampling.BOX)
            )
    else:
        if options.resize and (image.height, image.width) != options.resize:
            image = image.resize(options.resize[::-1], Image.Resampling.BOX)
        pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels
