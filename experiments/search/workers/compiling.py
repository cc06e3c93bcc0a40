"""A program is compiled once per machine: workers take turns, and the later ones load what the first one made.

JAX's persistent cache holds the programs, in a folder of the user's cache directory that belongs to this kind of
processor and this version of jaxlib. A loaded program is the same machine code, so it gives the same bits.
"""

import contextlib
import functools
import hashlib
import os
import platform
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.search.workers.processors import is_worker
from training.devices import cache_dir

DAYS = 30  # programs that were made earlier than so are removed
_ready: set[str] = set()


def program_folder() -> Path | None:
    """Return the folder of compiled programs that suit this processor and jaxlib; None for an unknown processor."""
    import jaxlib

    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        kept = [line for line in text.splitlines() if line.startswith(("model name", "flags", "Features"))]
        kind = "\n".join([platform.machine(), *kept])
        name = hashlib.sha256(kind.encode()).hexdigest()[:12]
        return cache_dir() / "programs" / f"jaxlib-{jaxlib.__version__}-{name}"
    return None


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Hold the lock file `path` during the block; its holder's death frees it. Without locks all go at once."""
    try:
        import fcntl

        file = open(path, "a")
    except (ImportError, OSError):
        yield
        return
    with file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def open_cache() -> Path | None:
    """Point JAX's cache at the folder of programs, before this process compiles anything; return the folder.

    None in a process that is no worker, and where the folder cannot be written: each worker then compiles for itself.
    """
    import jax

    folder = program_folder()
    if not is_worker() or folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if time.time() - path.stat().st_mtime > DAYS * 86400:
                path.unlink(missing_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


@contextlib.contextmanager
def compiling(identity: Any) -> Iterator[bool]:
    """Compile the program called `identity` inside the block; once per worker, nothing special elsewhere.

    Gives whether the program is new to the cache. A cached program that cannot be read (a process was killed while it
    wrote it) is removed with its neighbours, and the program compiled anew.
    """
    name = hashlib.sha256(repr(identity).encode()).hexdigest()[:24]
    if not is_worker() or name in _ready:
        yield False
        return
    folder = open_cache()
    made = folder and folder / f"{name}.made"
    with contextlib.ExitStack() as stack:
        if folder is not None:
            stack.enter_context(_turn(folder / f"{name}.lock"))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            yield made is not None and not made.exists()
        with contextlib.suppress(OSError):
            if made is not None:
                made.touch()
        if folder is not None and any("reading persistent compilation cache" in str(w.message) for w in said):
            shutil.rmtree(folder, ignore_errors=True)
    _ready.add(name)
