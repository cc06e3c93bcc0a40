"""Readers of single files from bytes; every damage is a DataError that names the file and what is wrong."""

import gzip
import io
import math
import os
import stat
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np

from data.errors import DataError, shown

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; DataError when it is missing, unreadable or empty."""
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise DataError(f"{shown(path, 200)}: not a file but {_kind(about.st_mode)}")
        if about.st_size > memory() // 2:
            raise DataError(
                f"{path}: {about.st_size / 2**30:.1f} GiB do not fit memory; save one array as .npy, use --read stream"
            )
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{shown(path, 200)}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
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


def memory() -> int:
    """Return the bytes of memory of this machine, or of this process's control group where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        pass
    return total


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(mode)), "a device")


def gunzip(content: bytes, where: str, most: int | None = None) -> bytes:
    """Return decompressed gzip bytes; DataError when they are damaged, cut short or more than `most` bytes.

    most: a tenth of memory, at most 1 GiB, unless given.
    """
    most = min(memory() // 10, 2**30) if most is None else most
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            out = file.read(most + 1)
    except EOFError:
        raise DataError(f"{where}: the gzip data are truncated ({len(content)} bytes); fetch the file again") from None
    except (gzip.BadGzipFile, zlib.error, OSError) as error:
        raise DataError(f"{where}: damaged gzip data ({error}); fetch the file again") from None
    if len(out) > most:
        raise DataError(f"{where}: the gzip data expand beyond {most / 2**20:.0f} MiB; unpack the file first")
    return out


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
    expected = head + math.prod(shape) * kind.itemsize  # Python's integers do not overflow
    if len(content) != expected:
        what = "truncated" if len(content) < expected else "longer than its header says"
        raise DataError(f"{where}: {what}: shape {shape} needs {expected} bytes, the file has {len(content)}")
    return np.frombuffer(content, kind, offset=head).reshape(shape).astype(kind.newbyteorder("="))
