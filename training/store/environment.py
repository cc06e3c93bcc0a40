"""What a run was made with: versions, devices, the commit. Written to env.json."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
from jax._src import xla_bridge  # whether the backend has started is asked nowhere else

from .errors import RunError

SETTINGS = ("XLA_FLAGS", "PJRT_NPROC", "NPROC", "OMP_NUM_THREADS")  # from which XLA takes its threads, and more
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "ml_dtypes")


def cores() -> int:
    """Return the number of CPU cores that this process may use (its affinity, not the machine's count)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fix_threads(count: int | None) -> None:
    """Make XLA's CPU client work with `count` threads, whatever the cores; None leaves the choice to it.

    The sums of a matrix product are split by the number of threads, so it decides the last bits. XLA reads the
    variable when its client starts (DefaultThreadPoolSize in xla/pjrt/utils.cc). Raises RunError after that.
    """
    if count is None or os.environ.get("PJRT_NPROC") == str(count):
        return
    if xla_bridge.backends_are_initialized():
        raise RunError(f"--threads {count} comes too late, JAX has started: set PJRT_NPROC={count} before")
    os.environ["PJRT_NPROC"] = str(count)


def environment(data: dict[str, Any] | None = None, threads: int | None = None) -> dict[str, Any]:
    """Return the record of this process: Python, packages, devices, cores, commit, and the data record given.

    `threads` is the number that `--threads` fixed, None where XLA chose.
    """
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "backend": jax.default_backend(),
        "devices": [f"{d.id}: {d.device_kind}" for d in devices],
        "cores": cores(),
        "threads": threads,
        "thread_settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
        "x64": jax.dtypes.canonicalize_dtype(float).itemsize == 8,
        "git": git_state(Path(__file__).resolve().parent),
        "data": data,
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return {"commit": hash, "dirty": tracked files differ from it}; None outside a git checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()

    try:
        if git("ls-files", "--", str(Path(__file__).name)) == "":  # installed inside somebody else's checkout
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": git("status", "--porcelain", "-uno") != ""}
    except (OSError, subprocess.SubprocessError):
        return None


def bits_differ(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return a warning where a run goes on with other threads or another XLA, which move the last bits."""
    xla = [env.get("packages", {}).get("jaxlib") for env in (old, new)]
    if xla[0] != xla[1]:
        change = f"jaxlib {xla[0]}, now {xla[1]}"
        return [f"warning: the run began with {change}; its bits may differ from those of an unbroken run"]
    if old.get("backend") != "cpu" or new.get("backend") != "cpu" or "cores" not in old:
        return []
    before, now = (env.get("threads") or env["cores"] for env in (old, new))
    settings = [env.get("thread_settings") for env in (old, new)]
    changes = [f"{before} threads, now on {now}"] if before != now else []
    changes += [f"{settings[0]}, now with {settings[1]}"] if settings[0] != settings[1] and not changes else []
    return [
        f"warning: the run began on {change}; its bits may differ from those of an unbroken run "
        "(--threads N fixes them for a new one)"
        for change in changes
    ]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return "name: old -> new" for all that changed between two records; a resumed run logs it."""
    before, after = _flat(old), _flat(new)
    names = [name for name in before | after if before.get(name) != after.get(name)]
    return [f"{name}: {before.get(name)} -> {after.get(name)}" for name in names]


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in record.items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out
