"""Readers of single files from bytes; every damage is a DataError that names the file and what is wrong."""

import gzip
import io
import os
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from data.dataset import DataError

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; DataError when it is missing, unreadable or empty."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not content:
        raise DataError(f"{path}: the file is empty (0 bytes); fetch or export it again")
    return content


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that it is either absent or complete: temporary file, fsync, rename, fsync folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def gunzip(content: bytes, where: str) -> bytes:
    """Return decompressed gzip bytes; DataError when they are damaged or cut short."""
    try:
        return gzip.decompress(content)
    except EOFError:
        raise DataError(
            f"{where}: the gzip data are truncated ({len(content)} bytes); fetch the file again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{where}: damaged gzip data ({error}); fetch the file again") from None


def parse_idx(content: bytes, where: str) -> np.ndarray:
    """Return the array of an idx file (yann.lecun.com/exdb/mnist), gzipped or not, in native byte order.

    Header: two zero bytes, a type byte, the number of dimensions, then each dimension as big-endian int32.
    """
    if content[:2] == b"\x1f\x8b":
        content = gunzip(content, where)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise DataError(f"{where}: not an idx file (it starts with bytes {content[:4].hex(' ') or 'none'})")
    rank, head = content[3], 4 + 4 * content[3]
    if len(content) < head:
        raise DataError(f"{where}: truncated in the idx header ({len(content)} of {head} bytes)")
    shape = struct.unpack(f">{rank}I", content[4:head])
    kind = np.dtype(_IDX_TYPES[content[2]])
    expected = head + int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if len(content) != expected:
        what = "truncated" if len(content) < expected else "longer than its header says"
        raise DataError(f"{where}: {what}: shape {shape} needs {expected} bytes, the file has {len(content)}")
    return np.frombuffer(content, kind, offset=head).reshape(shape).astype(kind.newbyteorder("="))


def parse_npz(content: bytes, where: str) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file; arrays of Python objects (pickles) are refused."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            if not hasattr(archive, "files"):
                raise DataError(f"{where}: not an npz file but a single array; name it .npy")
            return {key: archive[key] for key in archive.files}
    except DataError:
        raise
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{where}: {_npy_reason(error)}") from None


def parse_npy(content: bytes, where: str) -> np.ndarray:
    """Return the array of an npy file; arrays of Python objects (pickles) are refused."""
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{where}: {_npy_reason(error)}") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{where}: not an npy file but an archive of arrays; name it .npz")
    return array


def _npy_reason(error: Exception) -> str:
    if "pickle" in str(error).lower() and "Object arrays" in str(error):
        return "it holds Python objects, which are never unpickled; save plain numeric arrays"
    if "pickle" in str(error).lower():
        return "not a numpy file (wrong first bytes)"
    return f"damaged or truncated numpy file ({' '.join(str(error).split())})"
