"""One picture: from the bytes of a file to numbers (H, W, C); its mode decides the channels."""

import io
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.errors import DataError, shown
from data.files.formats import memory
from data.options import Options

KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
LARGEST = 2**26  # bytes of a file and pixels of a picture: 8,192 x 8,192


class Picture(NamedTuple):
    """Numbers (H, W, C), what was done to get them, how many frames the file has and its format."""

    pixels: np.ndarray
    remarks: tuple[str, ...] = ()
    frames: int = 1
    format: str = ""


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
    """Return the numbers of a picture, of the first frame of several.

    Bits and 8-bit grey give one channel 0..255; 16-bit, 32-bit and float grey their own numbers; palettes and CMYK
    are turned into colours. EXIF orientation is applied. Alpha is dropped when constant, else refused unless
    `options.channels` says what to keep. `options.resize` averages over area. Raises DataError, naming the file, for
    damage and for modes without a plain meaning.
    """
    first = next(_frames(content, shown(name, 200), options))
    told = (f"the first of several frames ({first.format})",) if first.frames > 1 else ()
    return first._replace(remarks=(*told, *first.remarks))


def decode_stack(content: bytes, name: str, options: Options) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the frames of a file (n, H, W, C), each read as `decode` does, and remarks; DataError where they differ.

    An MPO is a photo with its thumbnail or its depths: the first frame alone.
    """
    where = shown(name, 200)
    found: list[Picture] = []
    for frame in _frames(content, where, options):
        if frame.format == "MPO":
            photo = decode(content, name, options)
            return photo.pixels[None], photo.remarks
        if frame.format == "GIF":  # its frames after the first come in colours, even grey ones
            frame = frame._replace(pixels=np.broadcast_to(frame.pixels, (*frame.pixels.shape[:2], 3)))
        found.append(frame)
        if frame.pixels.shape != found[0].pixels.shape:
            raise DataError(
                f"{where}: frame {len(found)} is {frame.pixels.shape}, the first is {found[0].pixels.shape} (height, "
                "width, channels); bring them together with --resize HEIGHTxWIDTH or --channels 1 or 3"
            )
        if frame.frames * frame.pixels.nbytes > memory() // 2:
            raise DataError(f"{where}: its {frame.frames:,} frames do not fit memory; use --resize HEIGHTxWIDTH")
    several = (f"its {len(found):,} frames are the examples ({found[0].format})",) if len(found) > 1 else ()
    told = dict.fromkeys(remark for frame in found for remark in frame.remarks)
    x = np.stack([frame.pixels for frame in found])
    grey = found[0].format == "GIF" and options.channels != 3 and bool((x == x[..., :1]).all())
    return x[..., :1] if grey else x, (*several, *told)


def _frames(content: bytes, where: str, options: Options) -> Iterator[Picture]:
    """Yield the frames of a picture, one after another."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > LARGEST:
                raise DataError(f"{where}: {image.width} x {image.height} pixels are too many")
            frames = getattr(image, "n_frames", 1)
            for number in range(frames):
                image.seek(number)
                image.load()
                turned = ImageOps.exif_transpose(image) or image
                plain, more = _plain(turned, where, options)
                yield Picture(_resized(plain, options), more, frames, image.format or "")
    except DataError:
        raise
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error, EOFError ...
        raise DataError(f"{where}: not a readable image ({shown(error, 100)})") from None


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
