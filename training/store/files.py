"""Writing files so that a reader, a kill or a full disk never meets half of one."""

import contextlib
import errno
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from .errors import RunError

TEMPORARY = ".tmp"  # a temporary file is called .<name>.<process>.tmp
_WAY_OUT = {
    errno.ENOSPC: "the disk is full; what was there is intact; free some space, then --resume",
    errno.EDQUOT: "the disk quota is used up; what was there is intact; free some space, then --resume",
    errno.EFBIG: "the file is over the size limit (ulimit -f); what was there is intact",
    errno.EACCES: "no permission; choose another folder with --run-dir",
    errno.EPERM: "not permitted; choose another folder with --run-dir",
    errno.EROFS: "the disk is read-only; choose another folder with --run-dir",
    errno.EEXIST: "it is a file; choose another folder with --run-dir",
    errno.ENOENT: "no such folder can be made; choose another folder with --run-dir",
    errno.ENOTDIR: "part of the path is a file; choose another folder with --run-dir",
}


def cannot(what: str, path: Path, error: OSError) -> RunError:
    """Return the one-line RunError for an operating-system error: what failed, where, and the way out."""
    reason = _WAY_OUT.get(error.errno or 0, error.strerror or str(error))
    return RunError(f"cannot {what} {path}: {reason}")


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


@contextlib.contextmanager
def replacing(path: Path, before_rename: Callable[[Path], None] | None = None) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on a clean exit it is fsynced and renamed to `path`.

    `before_rename(temporary)` may use the complete file before it gets its name. After any error the
    temporary file is gone and `path` is as it was. Raises RunError for a full disk or a forbidden folder.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
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
            raise cannot("write", path, error) from error
        raise


def remove_temporaries(folder: Path) -> list[Path]:
    """Delete what killed writers left in `folder` and return it; only for the folder's one owner."""
    with doing("clean", folder):
        stale = [p for p in folder.glob(f".*{TEMPORARY}") if is_temporary(p)]
        for path in stale:
            path.unlink(missing_ok=True)
    return stale


def is_temporary(path: Path) -> bool:
    """Whether a file has a name that `replacing` gives."""
    return re.fullmatch(r"\..+\.\d+" + re.escape(TEMPORARY), path.name) is not None and path.is_file()


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
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace the file `path` by the JSON of `value`, atomically. Raises RunError."""
    write_text(path, to_json(value, indent=2) + "\n")
