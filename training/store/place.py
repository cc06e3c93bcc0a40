"""Where a new run may lie: the name of its folder, and whether the place is free."""

import contextlib
import datetime
import re
from pathlib import Path

from .errors import RunError
from .files import doing, is_temporary
from .identity import NAME as IDENTITY
from .lock import NAME as LOCK
from .metrics_file import NAME as METRICS
from .schema import read_json


def default_path(dataset: str, objective: str, root: Path = Path("runs")) -> Path:
    """Return `root/<dataset>-<objective>-<local time>`, numbered where that is taken; creates nothing."""
    time = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = re.sub(r"[^\w.+-]+", "-", f"{dataset}-{objective}-{time}").strip("-.")
    path = root / name
    for number in range(2, 10_000):
        if not path.exists():
            break
        path = root / f"{name}-{number}"
    return path


def check_free(path: Path) -> None:
    """Raise RunError unless `path` is absent, empty, or what a kill left of a run that never began."""
    with doing("use", path):
        if not path.exists():
            return
        if not path.is_dir():
            raise RunError(f"cannot use {path}: it is a file; choose another folder with --run-dir")
        inside = {p for p in path.iterdir() if not is_temporary(p)}
    if {path / "config.json", path / "env.json"} <= inside:
        summary = path / "summary.json"
        status = "unfinished"
        if summary in inside:
            with contextlib.suppress(RunError):  # damaged: --resume will say so
                status = read_json(summary, {"status": str})["status"]
        raise RunError(f"{path} already holds a run ({status}); add --resume, or choose another --run-dir")
    parts = ("checkpoints/*.safetensors", METRICS, "summary.json")
    if path / IDENTITY in inside and any(found for part in parts for found in path.glob(part)):
        raise RunError(f"{path} holds a run that has lost its config.json; choose another --run-dir")
    if path / LOCK in inside:
        unborn = {path / name for name in (LOCK, "command.txt", "env.json", IDENTITY, "checkpoints", "figures")}
        inside = {p for p in inside if p not in unborn or (p.is_dir() and any(p.iterdir()))}
    if inside:
        first = min(inside).name
        raise RunError(f"{path} holds files of something else ({first}); choose another --run-dir")
