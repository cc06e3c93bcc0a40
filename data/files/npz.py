"""npy and npz: headers are checked against the bytes that are there before anything is made of them."""

import ast
import io
import math
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from data.errors import DataError, shown
from data.files.formats import memory

_MAGIC = b"\x93NUMPY"
_LONGEST = 10_000  # bytes of a header: numpy's own limit


class Header(NamedTuple):
    """What an npy header says, and where the values start."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: Any, where: str) -> Header:
    """Return the header at the start of an npy file; DataError when it is damaged or holds Python objects.

    Format: numpy.lib.format, versions 1 to 3.
    """
    first = file.read(12)
    if first[:6] != _MAGIC or len(first) < 12:
        raise DataError(f"{where}: not a numpy file (wrong first bytes)")
    size, at = (struct.unpack("<H", first[8:10])[0], 10) if first[6] == 1 else (struct.unpack("<I", first[8:12])[0], 12)
    if first[6] not in (1, 2, 3) or size > _LONGEST:
        raise DataError(f"{where}: damaged numpy header (version {first[6]}, {size} bytes)")
    text = (first[at:] + file.read(size - (12 - at)))[:size]
    try:
        about = ast.literal_eval(text.decode("utf-8" if first[6] == 3 else "latin-1").strip())
        shape, fortran = tuple(about["shape"]), bool(about["fortran_order"])
        dtype = (
            np.dtype(about["descr"])
            if isinstance(about["descr"], str)
            else np.dtype([tuple(f) for f in about["descr"]])
        )
        if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
            raise ValueError(f"shape {shape}")
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: damaged numpy header ({shown(error)})") from None
    if dtype.hasobject:
        raise DataError(f"{where}: it holds Python objects, which are never unpickled; save plain numeric arrays")
    return Header(shape, fortran, dtype, at + size)


def _array(file: Any, size: int, where: str) -> np.ndarray:
    """Return the array of an npy file of `size` bytes."""
    head = read_header(file, where)
    if head.start + head.nbytes != size:
        what = "truncated" if head.start + head.nbytes > size else "longer than its header says"
        raise DataError(
            f"{where}: damaged or truncated numpy file ({what}: shape {head.shape} of {head.dtype} needs "
            f"{head.start + head.nbytes} bytes, there are {size})"
        )
    content = file.read(head.nbytes)
    if len(content) != head.nbytes:
        raise DataError(f"{where}: damaged or truncated numpy file ({len(content)} of {head.nbytes} bytes)")
    x = np.frombuffer(content, head.dtype) if head.dtype.itemsize else np.zeros(0)
    x = x.reshape(head.shape, order="F" if head.fortran else "C")
    return x.astype(x.dtype.newbyteorder("="), copy=False) if x.dtype.names is None else x


def parse_npy(content: bytes, where: str) -> np.ndarray:
    """Return the array of an npy file; arrays of Python objects (pickles) are refused."""
    if content[:4] == b"PK\x03\x04":
        raise DataError(f"{where}: not an npy file but an archive of arrays; name it .npz")
    return _array(io.BytesIO(content), len(content), where)


class Npz(Mapping[str, np.ndarray]):
    """The arrays of an npz file by name, read when asked for; DataError for members that are none."""

    def __init__(self, content: bytes, where: str):
        """Read the list of members."""
        if content[:6] == _MAGIC:
            raise DataError(f"{where}: not an npz file but a single array; name it .npy")
        self._where = where
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(content))
            members = self._archive.infolist()
        except Exception as error:  # zipfile raises many kinds for damaged archives
            raise DataError(f"{where}: damaged or truncated numpy file ({_reason(error)})") from None
        self._members = {m.filename.removesuffix(".npy"): m for m in members if not m.is_dir()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def _open(self, key: str) -> Any:
        return self._archive.open(self._members[key])

    def shape(self, key: str) -> tuple[int, ...] | None:
        """Return an array's shape from its header; None for a member that is no plain array."""
        try:
            with self._open(key) as file:
                return read_header(file, self._where).shape
        except Exception:  # encrypted, unknown compression, damaged: told when it is read
            return None

    def __getitem__(self, key: str) -> np.ndarray:
        where, member = f"{self._where}, array {shown(key)!r}", self._members[key]
        if member.file_size > memory() // 2:
            raise DataError(
                f"{where}: {member.file_size / 2**30:.1f} GiB do not fit memory; save it as .npy and use --read stream"
            )
        try:
            with self._open(key) as file:
                return _array(file, member.file_size, where)
        except DataError:
            raise
        except Exception as error:  # encryption, compression methods, checksums: zipfile raises many kinds
            raise DataError(f"{where}: damaged or truncated numpy file ({_reason(error)})") from None


def parse_npz(content: bytes, where: str) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file; arrays of Python objects (pickles) are refused."""
    return dict(Npz(content, where))


def _reason(error: Exception) -> str:
    return shown(" ".join(f"{error}".split()) or type(error).__name__, 120)
