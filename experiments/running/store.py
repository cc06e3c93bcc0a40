"""Where results live: the JSON of each, and the finished parts of one that is still being made.

Reading loads no JAX: the list of experiments is printed at once.
"""

import datetime
import functools
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "experiments" / "results"
SCRATCH = RESULTS / "smoke"  # what is no result: brief profiles, parts of a comparison; git ignores it
TABLES = ("train.py", "models", "training", "data", "grads", "experiments/__init__.py", "experiments/running")
"""all that can move a number of a table but its own file, whose configs are part of what identifies a run"""


@functools.cache
def code_sha256(parts: tuple[str, ...] = TABLES, root: Path = ROOT) -> str:
    """Return a digest of the Python files of `parts`, folders with all that is below them, by path and content."""
    out = hashlib.sha256()
    for part in parts:
        place = root / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            out.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return out.hexdigest()


class Finished:
    """The finished parts of a result, a file each, so that a killed command goes on where it stopped.

    A part's file is named by a digest of all that defines it: what is given as its identity (config with seed, data),
    the code of `parts`, JAX and the kind of device. Another result's or an older code's files are never taken for it.
    """

    def __init__(self, folder: Path, parts: tuple[str, ...] = TABLES):
        self.folder, self.parts = folder, parts

    def path(self, identity: Any) -> Path:
        """Return the file of a part."""
        text = json.dumps([identity, code_sha256(self.parts), *_machine()], sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    def get(self, identity: Any) -> Any:
        """Return a finished part, None where there is none or its file is damaged."""
        try:
            return restored(json.loads(self.path(identity).read_text()))
        except (OSError, ValueError):
            return None

    def put(self, identity: Any, value: Any) -> None:
        """Write a finished part, whole or not at all. Raises training.RunError."""
        from training.store.files import make_folder, to_json, write_text

        make_folder(self.folder)
        write_text(self.path(identity), to_json(value))

    def clear(self) -> None:
        """Delete the files: the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def provenance(seconds: float, parts: tuple[str, ...] = TABLES) -> dict[str, Any]:
    """Return what every result says of its making: day, minutes, cores, code, versions and devices."""
    from training.store.environment import cores, environment

    return {
        "date": datetime.date.today().isoformat(),
        "minutes": seconds / 60,
        "cores": cores(),
        "code": list(parts),
        "code_sha256": code_sha256(parts),
        "environment": environment(),
    }


@functools.cache
def _machine() -> tuple[str, str]:
    import jax

    return jax.__version__, jax.devices()[0].device_kind


def restored(value: Any) -> Any:
    """Return parsed JSON with nan and infinities, which `to_json` writes as words, as numbers."""
    if isinstance(value, dict):
        return {k: restored(v) for k, v in value.items()}
    if isinstance(value, list):
        return [restored(v) for v in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def rounded(value: Any, digits: int = 7) -> Any:
    """Return JSON-like data with every float cut to so many significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    return [rounded(v, digits) for v in value] if isinstance(value, (list, tuple)) else value


def write_result(path: Path, result: dict[str, Any], digits: int = 7) -> None:
    """Write a result's JSON, floats to so many significant digits (see `compact`). Raises training.RunError."""
    from training.store.files import json_ready, make_folder, write_text

    make_folder(path.parent)
    write_text(path, compact(rounded(json_ready(result), digits)) + "\n")


def compact(value: Any, indent: int = 0) -> str:
    """Return JSON with dicts spread over lines, lists of dicts an item a line, and everything else on one."""
    pad, end = " " * (indent + 1), "\n" + " " * indent
    if isinstance(value, dict) and value and (indent <= 4 or _nested(value)):
        items = (f"{pad}{json.dumps(str(k))}: {compact(v, indent + 1)}" for k, v in value.items())
        return "{\n" + ",\n".join(items) + end + "}"
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return "[\n" + ",\n".join(pad + json.dumps(v, ensure_ascii=False) for v in value) + end + "]"
    return json.dumps(value, ensure_ascii=False)


def _nested(value: dict[str, Any]) -> bool:
    return any(isinstance(v, (dict, list)) for v in value.values())


def read_result(path: Path) -> dict[str, Any] | None:
    """Return a result's JSON, or None where there is none. Raises ValueError, naming the file, for a damaged one."""
    if not path.exists():
        return None
    try:
        return restored(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON ({error}); run it again") from None
