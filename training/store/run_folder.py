"""The folder of one run: who may use it, what lies in it, and how a run is taken up again.

config.json    all of the configuration (--from repeats it)    metrics.jsonl  one row per evaluation
command.txt    every command line that worked on this run      summary.json   status, hash, test, seconds
env.json       versions, devices, commit, data                 log.txt        messages with their time
checkpoints/   see checkpoint.py                               figures/       see training/pictures/figures.py
"""

import datetime
import json
import re
from pathlib import Path
from typing import Any

from . import checkpoint
from .environment import differences, environment
from .errors import RunError
from .files import doing, is_temporary, make_folder, remove_temporaries, write_json, write_text
from .lock import NAME as LOCK
from .lock import FolderLock
from .metrics_file import NAME as METRICS
from .metrics_file import MetricsFile

STATUSES = ("finished", "preempted", "diverged", "failed")


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


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises RunError, naming the file, when it is missing or damaged."""
    try:
        with doing("read", path):
            return json.loads(path.read_text())
    except ValueError as error:
        raise RunError(f"cannot read {path}: it is no JSON ({error})") from None


class RunFolder:
    """An open run folder, held exclusively until `close` (or the end of a `with` block).

    Made by `create` or `resume`. `metrics` appends to metrics.jsonl.
    """

    def __init__(self, path: Path, lock: FolderLock):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.figures = path / "figures"
        self.metrics = MetricsFile(path / METRICS)
        self._lock = lock
        for folder in (path, self.checkpoints, self.figures):
            remove_temporaries(folder)

    @classmethod
    def create(
        cls, path: Path, config: dict[str, Any], command: str, data: dict[str, Any] | None = None
    ) -> "RunFolder":
        """Make the folder of a new run and take it.

        Raises RunError, with nothing changed, when `path` cannot be written, is in use, already holds a
        run, or holds files that are no run's. config.json is written last: a folder with it is complete.
        """
        _check_free(path)
        make_folder(path)
        lock = FolderLock(path)
        try:
            _check_free(path)
            run = cls(path, lock)
            make_folder(run.checkpoints)
            make_folder(run.figures)
            write_text(path / "command.txt", command + "\n")
            write_json(path / "env.json", environment(data))
            write_json(path / "config.json", config)
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def resume(cls, path: Path, command: str, data: dict[str, Any] | None = None) -> "RunFolder":
        """Take an existing run, finished or not. Raises RunError when there is none or it is in use.

        Nothing of the run is changed but command.txt and log.txt; `rewind` goes back to a checkpoint.
        """
        if not (path / "config.json").is_file():
            what = "is no run folder (no config.json)" if path.exists() else "does not exist"
            raise RunError(f"cannot resume {path}: it {what}; start a new run without --resume")
        run = cls(path, FolderLock(path))
        try:
            run._append("command.txt", command + "\n")
            env = path / "env.json"
            old = read_json(env) if env.exists() else {}
            changed = differences(old, environment(old.get("data") if data is None else data)) if old else []
            run.log("resumed" + "".join(f"; {line}" for line in changed))
        except BaseException:
            run.close()
            raise
        return run

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json. Raises RunError when it is damaged."""
        return read_json(self.path / "config.json")

    @property
    def summary(self) -> dict[str, Any] | None:
        """The content of summary.json; None before a run has come to an end."""
        path = self.path / "summary.json"
        return read_json(path) if path.exists() else None

    def log(self, message: str) -> None:
        """Append a message with its time to log.txt."""
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        self._append("log.txt", f"{now} {message}\n")

    def save(self, step: int, tree: Any, meta: dict[str, Any], best: bool = False) -> Path:
        """Write a checkpoint (see `checkpoint.save`); append the metrics up to `step` before it."""
        self.metrics.sync()
        return checkpoint.save(self.checkpoints, step, tree, meta, best)

    def latest(self) -> tuple[Path, dict[str, Any]] | None:
        """Return (path, meta) of the newest sound checkpoint; refused ones are logged and printed."""

        def report(message: str) -> None:
            print(message)
            self.log(message)

        return checkpoint.latest(self.checkpoints, report)

    def rewind(self, step: int) -> None:
        """Go back to the checkpoint of `step` (0: the start): later metrics and the summary go."""
        self.metrics.rewind(step)
        with doing("rewind", self.path):
            (self.path / "summary.json").unlink(missing_ok=True)

    def finish(self, status: str, **values: Any) -> None:
        """Write summary.json: `status` (one of STATUSES) and what else is given, atomically."""
        if status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}, got {status!r}")
        write_json(self.path / "summary.json", {"status": status, **values})

    def _append(self, name: str, text: str) -> None:
        path = self.path / name
        with doing("write", path), open(path, "a", encoding="utf-8") as file:
            file.write(text)

    def close(self) -> None:
        """Close the files and let other processes in."""
        self.metrics.close()
        self._lock.release()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_free(path: Path) -> None:
    """Raise RunError unless `path` is absent, empty, or what a kill left of a run that never began."""
    with doing("use", path):
        if not path.exists():
            return
        if not path.is_dir():
            raise RunError(f"cannot use {path}: it is a file; choose another folder with --run-dir")
        inside = {p for p in path.iterdir() if not is_temporary(p)}
    if {path / "config.json", path / "env.json"} <= inside:
        summary = path / "summary.json"
        status = read_json(summary).get("status") if summary in inside else "unfinished"
        raise RunError(f"{path} already holds a run ({status}); add --resume, or choose another --run-dir")
    if path / LOCK in inside:
        unborn = {path / name for name in (LOCK, "command.txt", "env.json", "checkpoints", "figures")}
        inside = {p for p in inside if p not in unborn or (p.is_dir() and any(p.iterdir()))}
    if inside:
        first = min(inside).name
        raise RunError(f"{path} holds files of something else ({first}); choose another --run-dir")
