"""Recordings: wav files of a folder, a zip or a tar, one alone; as samples within -1..1, of one rate, one channel."""

import io
import tarfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from math import gcd
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.errors import DataError, shown
from data.files.formats import memory, read_bytes

KINDS = (".wav", ".wave")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_LOOK = 3000  # entries that are looked at to tell what a folder or an archive holds


class Recordings(NamedTuple):
    """Waves (samples,) each within -1..1, their places below the top, samples a second, what was done."""

    waves: list[np.ndarray]
    places: list[tuple[str, ...]]
    rate: int
    remarks: tuple[str, ...]


def is_audio(path: Path) -> bool:
    """Whether a file is a wav, or a folder or an archive that holds some and is not known to hold pictures first."""
    name = path.name.lower()
    if name.endswith(KINDS):
        return path.is_file()
    if not path.is_dir() and not (name.endswith(ARCHIVES) and path.is_file()):
        return False
    try:
        for i, place in enumerate(_names(path)):
            if place.lower().endswith(KINDS):
                return True
            if i >= _LOOK or place.lower().endswith((".png", ".jpg", ".jpeg")):
                return False
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile):
        return False  # told when it is read
    return False


def _names(path: Path) -> Iterator[str]:
    if path.is_dir():
        yield from (str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
    elif path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            yield from archive.namelist()
    else:
        with tarfile.open(path) as archive:
            yield from (member.name for member in archive if member.isfile())


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the places and bytes of the wav files."""
    if path.is_file() and path.name.lower().endswith(KINDS):
        yield path.name, read_bytes(path)
    elif path.is_dir():
        for place in sorted(p for p in path.rglob("*") if p.name.lower().endswith(KINDS) and not p.is_dir()):
            yield str(place.relative_to(path)), read_bytes(place)  # which names a pipe, or a link to nowhere
    elif path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.lower().endswith(KINDS):
                    yield info.filename, archive.read(info)
    else:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.name.lower().endswith(KINDS):
                    file = archive.extractfile(member)
                    yield member.name, b"" if file is None else file.read()


def recordings(path: Path, rate: int = 0) -> Recordings:
    """Return the recordings of a file, folder or archive at `rate` samples a second (0: that of most of them).

    Widths of 8, 16, 24 and 32 bits and floats are read; channels are averaged, other rates resampled, both are said.
    Raises DataError, one line, for damage, no or empty recordings and more than half of memory.
    """
    where, found, held = shown(path, 200), [], 0
    try:
        for place, content in _members(path):
            held += 8 * len(content)
            if held > memory() // 2:
                raise DataError(f"{where}: its recordings do not fit memory; give a part of them")
            found.append((place, *decode(content, f"{where}: {shown(place, 80)}")))
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{where}: damaged or unreadable archive ({shown(error)})") from None
    if not found:
        raise DataError(f"{where}: no recordings ({', '.join(KINDS)}) in it")
    found.sort(key=lambda f: f[0])
    rates = Counter(f[2] for f in found)
    rate = rate or rates.most_common(1)[0][0]
    remarks = []
    if mixed := sum(f[3] > 1 for f in found):
        remarks.append(f"channels averaged in {mixed} of {len(found)} recordings")
    if other := {r: n for r, n in rates.items() if r != rate}:
        said = ", ".join(f"{n} of {r} Hz" for r, n in sorted(other.items()))
        remarks.append(f"resampled to {rate} Hz: {said}")
    waves = [_resampled(wave, old, rate) for _, wave, old, _ in found]
    places = [tuple(p for p in Path(f[0]).parts if p not in (".", "/")) for f in found]
    return Recordings(waves, places, rate, tuple(remarks))


def decode(content: bytes, where: str) -> tuple[np.ndarray, int, int]:
    """Return samples (n,) within -1..1, samples a second and channels of a wav file. Raises DataError, one line."""
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks that hold no samples
            rate, x = wavfile.read(io.BytesIO(content))
    except Exception as error:  # scipy's reader raises many kinds for damaged files and codecs
        raise DataError(f"{where}: not a readable wav file ({shown(error, 120)})") from None
    if not x.size or rate < 1:
        raise DataError(f"{where}: no samples in it; leave it out")
    channels = 1 if x.ndim == 1 else x.shape[1]
    if x.dtype.kind == "u":
        wave = (x.astype(np.float64) - 128) / 128
    elif x.dtype.kind == "i":
        wave = x.astype(np.float64) / float(-np.iinfo(x.dtype).min)
    else:
        wave = x.astype(np.float64)
    if not np.isfinite(wave).all():
        raise DataError(f"{where}: samples that are not finite")
    return (wave if channels == 1 else wave.mean(1)).astype(np.float32).reshape(-1), int(rate), channels


def _resampled(wave: np.ndarray, old: int, new: int) -> np.ndarray:
    if old == new:
        return wave
    from scipy.signal import resample_poly

    common = gcd(old, new)
    return resample_poly(wave, new // common, old // common).astype(np.float32)


def encode(waves: np.ndarray, rate: int, gap: float = 0.25) -> bytes:
    """Return one wav file, 16 bits, of waves (n, samples) after each other with `gap` seconds of silence between."""
    from scipy.io import wavfile

    silence = np.zeros(round(gap * rate))
    parts = [part for wave in waves for part in (np.clip(wave, -1, 1), silence)][:-1]
    file = io.BytesIO()
    wavfile.write(file, rate, np.rint(np.concatenate(parts) * 32767).astype(np.int16))
    return file.getvalue()
