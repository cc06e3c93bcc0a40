"""The folder of one run: who may use it, what lies in it, and how a run is taken up again.

config.json    all of the configuration (--from repeats it)    metrics.jsonl  one row per evaluation
run.json       which run this is, and digests of the rest      summary.json   status, hash, test, seconds
env.json       versions, devices, cores, commit, data          log.txt        messages with their time
command.txt    every command line that worked on this run      figures/       see training/pictures
checkpoints/   see checkpoint.py
"""

import contextlib
import datetime
import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from . import checkpoint
from .environment import bits_differ, differences, environment
from .errors import DamagedCheckpoint, RunError
from .files import doing, make_folder, read_bytes, remove_temporaries, write_json
from .identity import NAME as IDENTITY
from .identity import Accepted, Identity, data_difference, read_config, read_environment
from .lock import NAME as LOCK
from .lock import FolderLock
from .metrics_file import NAME as METRICS
from .metrics_file import MetricsFile
from .place import check_free, default_path
from .schema import META, STATUSES, contradiction, fault, json_sha256, read_json, read_summary, sealed

__all__ = ["STATUSES", "RunFolder", "default_path", "read_json"]


class RunFolder:
    """An open run folder, held exclusively until `close` (or the end of a `with` block).

    Made by `claim` (a new run) or `take` (one that exists): both lock it before anything is read. `begin` then
    writes what a new run starts with, or verifies that the data are still those of the old one. `metrics` appends
    to metrics.jsonl. `accept` lists what may differ from what the run wrote, see `identity.Accepted`.
    """

    def __init__(self, path: Path, lock: FolderLock, accept: Collection[Accepted] = ()):
        self.path, self.accept = path, accept
        self.checkpoints = path / "checkpoints"
        self.figures = path / "figures"
        self.metrics = MetricsFile(path / METRICS)
        self.identity: Identity | None = None  # None until a new run begins
        self._lock = lock
        self._made: list[Path] = []
        for folder in (path, self.checkpoints, self.figures):
            remove_temporaries(folder)

    @classmethod
    def claim(cls, path: Path) -> "RunFolder":
        """Take the folder of a new run; nothing of the run is written before `begin`, and without it nothing stays.

        Raises RunError, with nothing changed, when `path` cannot be written, is in use, already holds a run, or
        holds files that are no run's.
        """
        check_free(path)
        absent = [folder for folder in (path, *path.parents) if not folder.exists()]
        make_folder(path)
        lock = FolderLock(path)
        try:
            check_free(path)
            run = cls(path, lock)
        except BaseException:
            lock.release()
            raise
        run._made = absent
        return run

    @classmethod
    def take(cls, path: Path, accept: Collection[Accepted] = ()) -> "RunFolder":
        """Take an existing run, finished or not, and verify its files; nothing is changed.

        Raises RunError, one line, when there is none, it is in use, or a file is not what the run wrote.
        """
        if not (path / "config.json").is_file():
            what = "is no run folder (no config.json)" if path.exists() else "does not exist"
            raise RunError(f"cannot resume {path}: it {what}; start a new run without --resume")
        run = cls(path, FolderLock(path), accept)
        try:
            run._verify()
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def create(
        cls, path: Path, config: dict[str, Any], command: str, data: dict[str, Any] | None = None
    ) -> "RunFolder":
        """Make the folder of a new run: `claim` and `begin`."""
        return cls.claim(path)._begin_or_close(config, command, data)

    @classmethod
    def resume(cls, path: Path, command: str, data: dict[str, Any] | None = None) -> "RunFolder":
        """Take an existing run up again: `take` and `begin`, without a look at the data."""
        return cls.take(path)._begin_or_close({}, command, data)

    def _begin_or_close(self, config: dict[str, Any], command: str, data: dict[str, Any] | None) -> "RunFolder":
        try:
            self.begin(config, command, data)
        except BaseException:
            self.close()
            raise
        return self

    def begin(
        self,
        config: dict[str, Any],
        command: str,
        record: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        threads: int | None = None,
    ) -> list[str]:
        """Write what a new run starts with, or go on with the old one; return what its user should know, in lines.

        `record` is that of the data set (for env.json), `data` its `identity.data_identity`. config.json is written
        last: a folder with it is complete. Raises RunError where the data of an old run have changed and "data" is
        not accepted; an old run has only run.json, command.txt and log.txt changed.
        """
        if self.identity is None:
            if (self.path / IDENTITY).exists() and Identity.read(self.path).config != json_sha256(config):
                raise RunError(
                    f"a run of another config was begun in {self.path}, whose config.json is gone; "
                    "remove the folder, or choose another --run-dir"
                )
            make_folder(self.checkpoints)
            make_folder(self.figures)
            env = environment(record, threads)
            write_json(self.path / "env.json", env)
            identity = Identity.new(config, env, data)
            self.identity = identity.append(self.path, "command.txt", command + "\n")
            write_json(self.path / "config.json", config)
            self.metrics.seed = identity.run
            self._made = []
            return []
        said = self._accept_data(data) if data is not None else []
        self.identity = self.identity.append(self.path, "command.txt", command + "\n")
        old = read_environment(self.path)
        new = environment(old["data"] if record is None else record, threads)
        self.log("; ".join(["resumed", *differences(old, new), *said]))
        gone = [f"{self.figures / name} is gone" for name in self.lost_figures()]
        return said + bits_differ(old, new) + gone

    def extend(self, config: dict[str, Any]) -> None:
        """Replace config.json by one with more epochs; what carries the digest of the old one stays the run's."""
        assert self.identity is not None, "a run is extended once it has begun"
        known, new = self.identity, json_sha256(config)
        self.identity = known._replace(config=new, earlier_configs=[*known.earlier_configs, known.config])
        self.identity.write(self.path)
        write_json(self.path / "config.json", config)

    def lost_figures(self) -> list[str]:
        """Return the names of figures that a finished run has drawn and that are no longer there."""
        summary = self.summary
        drawn = summary["figures"] if summary and summary["status"] == "finished" else {}
        return [name for name in drawn if not (self.figures / name).exists()]

    def _verify(self) -> None:
        """Raise RunError unless the folder's files are what the run wrote, or their change is accepted."""
        identity = Identity.read(self.path)
        read_config(self.path)
        if "notes" in self.accept:
            environment = json_sha256(read_environment(self.path))
            identity = identity._replace(environment=environment).seal_notes(self.path)
        identity.check_notes(self.path)
        self.identity, self.metrics.seed = identity, identity.run
        if (summary := self.summary) is not None:
            if wrong := identity.difference(summary["identity"]):
                raise RunError(f"{self.path / 'summary.json'}: {wrong}; remove it, and --resume writes the right one")
            if summary["status"] == "finished":
                self._verify_finished(summary)

    def _verify_finished(self, summary: dict[str, Any]) -> None:
        """Raise RunError unless rows, checkpoints and figures are those that a finished run left."""
        assert self.identity is not None
        rows = self.metrics.check(summary["identity"]["rows"], "rows" in self.accept)
        if "rows" not in self.accept and (wrong := contradiction(summary, rows)):
            raise RunError(f"{self.path / 'summary.json'}: {wrong}; remove it, and --resume writes it again")
        way_out = f"train again with --from {self.path} and a new --run-dir"
        last = checkpoint.step_path(self.checkpoints, summary["end"]["step"])
        if not last.exists():
            raise RunError(f"{last}, the last of a finished run, is gone; {way_out}")
        for step in checkpoint.steps(self.checkpoints):
            path = checkpoint.step_path(self.checkpoints, step)
            try:
                checkpoint.check_place(path, *checkpoint.load(path)[:2], self._difference)
            except DamagedCheckpoint as error:
                raise RunError(f"{error}; {way_out}") from None
        if summary["best"]["epoch"]:
            self.best(summary["best"]["epoch"])
        if "notes" not in self.accept:
            for name, digest in summary.get("figures", {}).items():
                path = self.figures / name
                if path.exists() and hashlib.sha256(read_bytes(path)).hexdigest() != digest:
                    raise RunError(f"{path} was changed since the run drew it; to go on all the same: --accept notes")

    def _accept_data(self, data: dict[str, Any]) -> list[str]:
        """Return a line where the data have changed and that is accepted. Raises RunError where it is not."""
        assert self.identity is not None
        if self.identity.data is None:
            return []
        changed = data_difference(self.identity.data, data)
        if changed is None:
            return []
        others = f"for a run on these data use --from {self.path} --accept data and a new --run-dir"
        finished = self.summary is not None and self.summary["status"] == "finished"
        same_size = data["shape"] == self.identity.data["shape"] and data["examples"] == self.identity.data["examples"]
        if finished or not same_size or "data" not in self.accept:
            others += ", or --resume --accept data" if same_size and not finished else ""
            raise RunError(f"the data are not those of {self.path}: {changed}; {others}")
        earlier = [*self.identity.earlier_data, self.identity.data]
        self.identity = self.identity._replace(data=data, earlier_data=earlier)
        return [f"other data from here on, as accepted: {changed}"]

    def _difference(self, meta: dict[str, Any]) -> str | None:
        """Return in words why a sound checkpoint is not of this run; None where it is."""
        assert self.identity is not None
        if "identity" not in meta:
            return "it names no run: it was written by an older version, or is no run's checkpoint"
        return fault(meta, META) or self.identity.difference(meta["identity"])

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json. Raises RunError when it is damaged."""
        return read_config(self.path)

    @property
    def threads(self) -> int | None:
        """The number of threads that --threads fixed when the run began; None of a new run, or where it did not."""
        return None if self.identity is None else read_environment(self.path).get("threads")

    @property
    def summary(self) -> dict[str, Any] | None:
        """The content of summary.json; None before a run has come to an end. Raises RunError when it was changed."""
        path = self.path / "summary.json"
        return read_summary(path) if path.exists() else None

    def log(self, message: str) -> None:
        """Append a message with its time to log.txt."""
        assert self.identity is not None, "a run has a log once it has begun"
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        self.identity = self.identity.append(self.path, "log.txt", f"{now} {message}\n")

    def save(self, step: int, tree: Any, meta: dict[str, Any], best: bool = False) -> Path:
        """Write a checkpoint (see `checkpoint.save`) with the run's stamp; flush the metrics up to `step` before it."""
        assert self.identity is not None, "a run is saved once it has begun"
        self.metrics.sync()
        meta = {**meta, "identity": self.identity.stamp(self.metrics.at(step))}
        return checkpoint.save(self.checkpoints, step, tree, meta, best)

    def latest(self) -> tuple[Path, dict[str, Any]] | None:
        """Return (path, meta) of the newest sound checkpoint of this run; refused ones are logged and printed.

        Raises DamagedCheckpoint where all are refused, RunError where the best that it knows of is gone.
        """
        refused: list[str] = []

        def report(message: str) -> None:
            refused.append(message)
            self._report(message)

        found = checkpoint.latest(self.checkpoints, report, self._difference)
        if found is None and (self.metrics.path.exists() or self.summary is not None):
            self._report(f"{self.checkpoints} holds no checkpoint: the run starts again at its first step")
        if found is not None and found[1]["best"]["epoch"]:
            try:
                self.best(found[1]["best"]["epoch"])
            except RunError as error:
                if not refused:  # else the epochs that are trained again may find it again
                    raise
                self._report(str(error))
        return found

    def best(self, epoch: int) -> Path:
        """Return the best checkpoint, which is that of `epoch`. Raises RunError, one line, where it is not."""
        path = checkpoint.best_path(self.checkpoints)
        way_out = f"train again with --from {self.path} and a new --run-dir"
        if not path.exists():
            raise RunError(f"{path}, the best of epoch {epoch}, is gone; {way_out}")
        try:
            step, meta, _ = checkpoint.load(path)
            checkpoint.check_place(path, step, meta, self._difference)
        except DamagedCheckpoint as error:
            raise RunError(f"{error}; {way_out}") from None
        if meta["best"]["epoch"] != epoch:
            raise RunError(f"{path} is of epoch {meta['best']['epoch']}, the best was epoch {epoch}; {way_out}")
        return path

    def _report(self, message: str) -> None:
        print(message)
        self.log(message)

    def rewind(self, step: int, meta: dict[str, Any] | None = None) -> None:
        """Go back to the checkpoint of `step` and `meta` (0 and None: the start): later rows and the summary go.

        Raises RunError, with nothing changed, where the rows up to it are not those that the checkpoint knows.
        """
        rows = meta["identity"]["rows"] if meta and "identity" in meta else None
        for message in self.metrics.rewind(step, rows, "rows" in self.accept):
            self._report(message)
        with doing("rewind", self.path):
            (self.path / "summary.json").unlink(missing_ok=True)

    def finish(self, status: str, **values: Any) -> None:
        """Write summary.json: `status` (one of STATUSES), what else is given, and the run's stamp, atomically."""
        if status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}, got {status!r}")
        assert self.identity is not None, "a run ends once it has begun"
        figures = {p.name: hashlib.sha256(read_bytes(p)).hexdigest() for p in sorted(self.figures.glob("*.png"))}
        stamp = self.identity.stamp(self.metrics.at())
        summary = {"status": status, **values, "figures": figures, "identity": stamp}
        write_json(self.path / "summary.json", sealed(summary))

    def close(self) -> None:
        """Close the files and let other processes in; of a run that never began nothing stays."""
        self.metrics.close()
        if self.identity is None:
            self.abandon()
        self._lock.release()

    def abandon(self) -> None:
        """Remove what `claim` made for a run that has not begun; where anything else lies there, nothing."""
        if self.identity is not None:
            return
        with contextlib.suppress(OSError):
            if any(path.name != LOCK for path in self.path.iterdir()):
                return
            (self.path / LOCK).unlink()
            for folder in self._made:
                folder.rmdir()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
