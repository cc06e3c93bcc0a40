"""Finished cells of the comparison, one JSON line each, so that a killed run goes on where it stopped."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import jax

from experiments.running.store import RESULTS, ROOT, rounded

SOURCES = (
    "grads/**/*.py",
    "experiments/jacobians/grid.py",
    "experiments/jacobians/networks.py",
    "experiments/jacobians/race.py",
)


@functools.cache
def code_hash() -> str:
    """Return a digest of the code that can move a number, of the version of JAX and of the device."""
    device = jax.devices()[0]
    out = hashlib.sha256(f"{jax.__version__} {device.platform} {device.device_kind}".encode())
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            out.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return out.hexdigest()[:16]


class Lines:
    """A file of finished cells; `key` must be the same for a line to count."""

    def __init__(self, path: Path, key: str):
        self.path, self.key = path, key

    @classmethod
    def of(cls, name: str) -> "Lines":
        """The file of a comparison by name."""
        return cls(RESULTS / ".partial" / f"{name}.jsonl", code_hash())

    def read(self) -> dict[tuple, list[dict]]:
        """Return {cell: rows} of what is finished; a damaged last line (the run was killed) is not."""
        found: dict[tuple, list[dict]] = {}
        if not self.path.exists():
            return found
        for line in self.path.read_text().splitlines():
            try:
                record = json.loads(line)
                if record["key"] == self.key:
                    found[tuple(record["cell"])] = record["rows"]
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def add(self, cell: tuple, rows: list[dict[str, Any]]) -> None:
        """Append a finished cell."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = not self.path.exists() or self.path.read_bytes()[-1:] in (b"", b"\n")
        with self.path.open("a") as out:
            line = json.dumps({"key": self.key, "cell": list(cell), "rows": rounded(rows, 4)})
            out.write(("" if whole else "\n") + line + "\n")
