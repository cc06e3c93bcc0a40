"""A program is compiled once per machine: workers take turns, and the later ones load what the first one made.

JAX's persistent cache holds the programs, in a folder of the user's cache directory that belongs to this kind of
processor and this version of jaxlib. A loaded program is the same machine code, so it gives the same bits.
"""

import contextlib
import fcntl
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

from experiments.search.workers.affinity import is_worker
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
def compiling(identity: Any) -> Iterator[None]:
    """Compile the program called `identity` inside the block: of a machine's workers one, while the others wait.

    A cached program that cannot be read (a process was killed while it wrote it) is removed with its neighbours, and
    the program compiled anew.
    """
    name, folder = hashlib.sha256(repr(identity).encode()).hexdigest()[:24], open_cache()
    if folder is None or name in _ready:
        yield
        return
    with open(folder / f"{name}.lock", "a") as lock, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with contextlib.suppress(OSError):  # without locks all go at once
            fcntl.flock(lock, fcntl.LOCK_EX)  # its holder's death frees it
        yield
    if any("reading persistent compilation cache" in str(w.message) for w in said):
        shutil.rmtree(folder, ignore_errors=True)
    _ready.add(name)
