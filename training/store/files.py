"""Writing files so that a reader, a kill or a full disk never meets half of one."""

import contextlib
import errno
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from .errors import RunError

TEMPORARY = ".tmp"  # a temporary file is called .<name>.<process>-<random>.tmp
_WAY_OUT = {
    errno.ENOSPC: "the disk is full{needed}; what was there is intact; free some space, then --resume",
    errno.EDQUOT: "the disk quota is used up{needed}; what was there is intact; free some space, then --resume",
    errno.EFBIG: "the file is over the size limit (ulimit -f){needed}; what was there is intact",
    errno.EACCES: "no permission; choose another folder with --run-dir",
    errno.EPERM: "not permitted; choose another folder with --run-dir",
    errno.EROFS: "the disk is read-only; choose another folder with --run-dir",
    errno.EEXIST: "it is a file; choose another folder with --run-dir",
    errno.ENOENT: "no such folder can be made; choose another folder with --run-dir",
    errno.ENOTDIR: "part of the path is a file; choose another folder with --run-dir",
    errno.ELOOP: "it is a link; put the file itself there",
}


def cannot(what: str, path: Path, error: OSError, size: int | None = None) -> RunError:
    """Return the one-line RunError for an operating-system error: what failed, where, and the way out.

    `size` is that of the file to be written, in bytes: a message about a full disk names it.
    """
    reason = _WAY_OUT.get(error.errno or 0, error.strerror or str(error))
    return RunError(f"cannot {what} {path}: {reason.format(needed=_needed(path, size))}")


def _needed(path: Path, size: int | None) -> str:
    """Return ": 1,234 bytes are needed, 12 are free"."""
    if size is None:
        return ""
    try:
        free = f", {shutil.disk_usage(path.parent).free:,} are free"
    except OSError:
        free = ""
    return f": {size:,} bytes are needed{free}"


@contextlib.contextmanager
def doing(what: str, path: Path) -> Iterator[None]:
    """Turn an operating-system error in the block into the RunError "cannot <what> <path>: ..."."""
    try:
        yield
    except OSError as error:
        raise cannot(what, path, error) from error


def make_folder(folder: Path) -> None:
    """Create a folder and its parents where they do not exist. Raises RunError."""
    with doing("create", folder):
        folder.mkdir(parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network and virtual file systems cannot sync a folder
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def temporary_path(path: Path) -> Path:
    """Return a name beside `path` that no other writer, on any machine, uses; `remove_temporaries` knows it."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")


@contextlib.contextmanager
def replacing(
    path: Path, before_rename: Callable[[Path], None] | None = None, size: int | None = None
) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on a clean exit it is fsynced and renamed to `path`.

    The temporary file is opened exclusively: never an existing file or link. `before_rename(temporary)` may use
    the complete file before it gets its name; `size` is the bytes to come, for the message when they find no room.
    After any error the temporary file is gone and `path` is as it was. Raises RunError for a full disk or a
    forbidden folder.
    """
    temporary = temporary_path(path)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if before_rename is not None:
            before_rename(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot("write", path, error, size) from error
        raise


def read_bytes(path: Path) -> bytes:
    """Return what a regular file holds. Raises RunError; a pipe or a device is refused and never waited for."""
    with doing("read", path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise RunError(f"cannot read {path}: it does not exist") from None
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RunError(f"cannot read {path}: it is no regular file")
            return file.read()


def open_to_append(path: Path) -> IO[bytes]:
    """Open a regular file, unbuffered, to write at its end; links, pipes and devices are refused. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file; remove it")
    return open(descriptor, "ab", buffering=0)


def remove_temporaries(folder: Path) -> list[Path]:
    """Delete what killed writers left in `folder` and return it; only for the folder's one owner."""
    with doing("clean", folder):
        stale = [p for p in folder.glob(f".*{TEMPORARY}") if is_temporary(p)]
        for path in stale:
            path.unlink(missing_ok=True)
    return stale


def is_temporary(path: Path) -> bool:
    """Whether a file has a name that `replacing` gives."""
    return re.fullmatch(r"\..+\.\d+(-[0-9a-f]+)?" + re.escape(TEMPORARY), path.name) is not None and path.is_file()


def json_ready(value: Any) -> Any:
    """Return `value` as plain JSON types: arrays become lists, NaN and infinities the strings of Python.

    Raises TypeError for what has no JSON form.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(k): json_ready(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic) or hasattr(value, "__array__"):
        array = np.asarray(value)
        numbers = array if array.dtype.kind in "biufUS" else array.astype(np.float64)  # bfloat16 and its like
        return json_ready(numbers.tolist())
    raise TypeError(f"no JSON form for {type(value).__name__}: {value!r}")


def to_json(value: Any, indent: int | None = None) -> str:
    """Return valid JSON text of `value` (see `json_ready`); one line unless `indent` is given."""
    return json.dumps(json_ready(value), indent=indent, allow_nan=False, ensure_ascii=False)


def write_text(path: Path, text: str) -> None:
    """Replace the file `path` by `text` (UTF-8), atomically. Raises RunError."""
    data = text.encode()
    with replacing(path, size=len(data)) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Replace the file `path` by the JSON of `value`, atomically. Raises RunError."""
    write_text(path, to_json(value, indent=2) + "\n")
