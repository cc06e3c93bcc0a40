"""Where results live: finished runs of an unfinished table, one file each, and the table's own JSON."""

import functools
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from training.store.files import make_folder, write_text

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "experiments" / "results"
SOURCES = (
    "train.py",
    "models/**/*.py",
    "training/**/*.py",
    "data/**/*.py",
    "experiments/running/group.py",
    "experiments/running/one_run.py",
    "experiments/running/evaluate.py",
)


@functools.cache
def code_sha256() -> str:
    """Return a digest of all code that can move a number: the core, its packages, and how groups run."""
    out = hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            out.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return out.hexdigest()


def rounded(value: Any, digits: int = 7) -> Any:
    """Return JSON-like data with every float cut to so many significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    return [rounded(v, digits) for v in value] if isinstance(value, (list, tuple)) else value


class Partial:
    """The finished runs of a table, so that a killed one goes on where it stopped.

    A run's file is named by a digest of all that defines it: config with seed, data, code, profile. Another
    table's or an older code's files are never taken for it.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, identity: Any) -> Path:
        """Return the file of a run."""
        text = json.dumps([identity, code_sha256()], sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    def get(self, identity: Any) -> dict[str, Any] | None:
        """Return a finished run, None where there is none or its file is damaged."""
        try:
            found = json.loads(self.path(identity).read_text())
        except (OSError, ValueError):
            return None
        found["pictures"] = np.asarray(found["pictures"], np.float32)
        return found

    def put(self, identity: Any, result: dict[str, Any]) -> None:
        """Write a finished run, whole or not at all. Raises training.RunError."""
        make_folder(self.folder)
        pictures = np.round(result["pictures"].astype(float), 3).tolist()
        write_text(self.path(identity), json.dumps(result | {"pictures": pictures}))

    def clear(self) -> None:
        """Delete the files: the table is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a table's JSON: short lists on one line each, floats to 7 digits. Raises training.RunError."""
    make_folder(path.parent)
    write_text(path, compact(rounded(result)) + "\n")


def compact(value: Any, indent: int = 0) -> str:
    """Return JSON with dicts spread over lines and everything without a dict inside on one."""
    if not isinstance(value, dict) or not value or (indent > 4 and not _nested(value)):
        return json.dumps(value, ensure_ascii=False)
    pad = " " * (indent + 1)
    items = (f"{pad}{json.dumps(str(k))}: {compact(v, indent + 1)}" for k, v in value.items())
    return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"


def _nested(value: dict[str, Any]) -> bool:
    return any(isinstance(v, (dict, list)) for v in value.values())


def read_result(path: Path) -> dict[str, Any] | None:
    """Return a table's JSON, or None where there is none. Raises ValueError, naming the file, for a damaged one."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON ({error}); run its table again") from None
