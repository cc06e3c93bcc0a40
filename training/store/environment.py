"""What a run was made with: versions, devices, the commit. Written to env.json."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "ml_dtypes")


def environment(data: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the record of this process: Python, packages, devices, commit, and the data record given."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "backend": jax.default_backend(),
        "devices": [f"{d.id}: {d.device_kind}" for d in devices],
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
