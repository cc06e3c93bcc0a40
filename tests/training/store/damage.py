"""Damages to run folders, and the judgement of what a command makes of them. Every draw is from a seeded generator."""

import contextlib
import hashlib
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import train as T
from training.host import Pace
from training.store import checkpoint
from training.store.metrics_file import read_metrics
from training.store.schema import sealed

OTHER_TYPES = (None, True, -1, 2**70, 0.5, "text", [], {}, [[1]], {"a": {"b": []}}, "nan", "\ud800")


class Damage(NamedTuple):
    """One damage: words for it, and what does it to a folder."""

    name: str
    apply: Callable[[Path], None]


class Verdict(NamedTuple):
    """What a command made of a damaged folder.

    refused: at most four lines that name the file, and another exit code than 0; same: the outcome and the record are
    those of the undamaged run; told: a line names a figure that is lost, all else is the same.
    Must not be: silent, traceback, wordy (refused, but without the file's name or at length).
    """

    kind: str
    said: str


def files(folder: Path) -> list[str]:
    """Return the files of a run that a damage may hit."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def bytes_damages(name: str, other: Path, rng: random.Random) -> Iterator[Damage]:
    """Yield what disks and hands do to any file: flipped bits, cuts, nothing left, another run's file in its place."""

    def edit(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
        return lambda folder: _write(folder / name, change((folder / name).read_bytes()))

    where, bit, share = rng.random(), rng.randrange(8), rng.random()
    yield Damage(f"{name}: bit {bit} flipped at {where:.3f}", edit(lambda raw: _flip(raw, where, bit)))
    yield Damage(f"{name}: cut to {share:.3f}", edit(lambda raw: raw[: int(share * len(raw))]))
    yield Damage(f"{name}: last byte gone", edit(lambda raw: raw[:-1]))
    yield Damage(f"{name}: emptied", edit(lambda _: b""))
    yield Damage(f"{name}: deleted", lambda folder: (folder / name).unlink())
    yield Damage(f"{name}: bytes that are no UTF-8", edit(lambda raw: b"\xff\xfe" + raw))
    yield Damage(f"{name}: nested too deep", edit(lambda _: b"[" * 50_000))
    if (other / name).exists():
        yield Damage(f"{name}: another run's", lambda folder: shutil.copyfile(other / name, folder / name))


def json_damages(name: str, rng: random.Random) -> Iterator[Damage]:
    """Yield edits of a JSON file: a value changed by hand, a value of another type, a field gone."""
    seed = rng.randrange(2**30)
    for kind in ("value", "type", "gone"):
        yield Damage(f"{name}: {kind} {seed}", lambda folder, kind=kind: _edit_json(folder / name, kind, seed))


def row_damages(name: str, rng: random.Random) -> Iterator[Damage]:
    """Yield edits of rows of metrics: a number changed, a row gone, twice, or of other types."""
    seed = rng.randrange(2**30)

    def edit(change: Callable[[list[str], random.Random], list[str]]) -> Callable[[Path], None]:
        def apply(folder: Path) -> None:
            lines = change((folder / name).read_text().splitlines(), random.Random(seed))
            (folder / name).write_text("".join(line + "\n" for line in lines))

        return apply

    def mutate(lines: list[str], rng: random.Random, kind: str) -> list[str]:
        at = rng.randrange(len(lines))
        return [*lines[:at], json.dumps(_mutated(json.loads(lines[at]), kind, rng)), *lines[at + 1 :]]

    for kind in ("value", "type", "gone"):
        yield Damage(f"{name}: a row's {kind} {seed}", edit(lambda lines, rng, kind=kind: mutate(lines, rng, kind)))
    yield Damage(f"{name}: first row gone", edit(lambda lines, _: lines[1:]))
    yield Damage(f"{name}: last row gone", edit(lambda lines, _: lines[:-1]))
    yield Damage(f"{name}: rows swapped", edit(lambda lines, _: lines[::-1]))
    yield Damage(f"{name}: a row twice", edit(lambda lines, _: [lines[0], *lines]))


def checkpoint_damages(other: Path, rng: random.Random) -> Iterator[Damage]:
    """Yield sound checkpoint files in wrong places, and sealed headers whose fields have other types."""
    seed = rng.randrange(2**30)

    def paths(folder: Path) -> list[Path]:
        return sorted((folder / "checkpoints").glob("*.safetensors"))

    def swap(folder: Path) -> None:
        first, last = paths(folder)[0], paths(folder)[-1]
        raw = first.read_bytes(), last.read_bytes()
        _write(first, raw[1])
        _write(last, raw[0])

    def every(folder: Path) -> None:
        for path, source in zip(paths(folder), paths(other), strict=False):
            _write(path, source.read_bytes())

    def retype(folder: Path) -> None:
        rng = random.Random(seed)
        _reseal(rng.choice(paths(folder)), rng)

    yield Damage("checkpoints: first and last swapped", swap)
    yield Damage("checkpoints: all of another run", every)
    yield Damage("checkpoints: all gone", lambda folder: [path.unlink() for path in paths(folder)] and None)
    yield Damage(f"checkpoints: a sealed header of other types {seed}", retype)
    yield Damage(f"summary.json: sealed with other types {seed}", lambda folder: _retype_summary(folder, seed))


def damages(folder: Path, other: Path, rng: random.Random) -> Iterator[Damage]:
    """Yield damages to a folder without end; `other` is a run of the same shapes."""
    while True:
        for name in files(folder):
            yield from bytes_damages(name, other, rng)
            if name.endswith(".json"):
                yield from json_damages(name, rng)
            if name.endswith(".jsonl"):
                yield from row_damages(name, rng)
        yield from checkpoint_damages(other, rng)


def _write(path: Path, raw: bytes) -> None:
    path.unlink(missing_ok=True)  # the best checkpoint may be a second name of the same file
    path.write_bytes(raw)


def _flip(raw: bytes, where: float, bit: int) -> bytes:
    if not raw:
        return b"\0"
    at = int(where * len(raw))
    return raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]


def _leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every value inside JSON content."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from _leaves(inner, (*path, key))


def _mutated(content: Any, kind: str, rng: random.Random) -> Any:
    paths = list(_leaves(content)) if isinstance(content, (dict, list)) else []
    if not paths:
        return rng.choice(OTHER_TYPES)
    *way, last = rng.choice(paths)
    inner = content
    for key in way:
        inner = inner[key]
    old = inner[last]
    if kind == "gone":
        del inner[last]
    elif kind == "type":
        inner[last] = rng.choice([v for v in OTHER_TYPES if type(v) is not type(old)])
    elif isinstance(old, bool) or old is None:
        inner[last] = not old
    elif isinstance(old, (int, float)):
        inner[last] = old + 1
    elif isinstance(old, str):
        inner[last] = old + "x"
    else:
        inner[last] = [old]
    return content


def _edit_json(path: Path, kind: str, seed: int) -> None:
    _write(path, json.dumps(_mutated(json.loads(path.read_bytes()), kind, random.Random(seed))).encode())


def _retype_summary(folder: Path, seed: int) -> None:
    path = folder / "summary.json"
    if path.exists():
        content = json.loads(path.read_bytes())
        _write(path, json.dumps(sealed(_mutated(content, "type", random.Random(seed)))).encode())


def _reseal(path: Path, rng: random.Random) -> None:
    """Change a field of a checkpoint's header to another type, under a seal that matches."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    content = json.loads(raw[8 : 8 + length])
    inside = {**content["__metadata__"]}
    which = rng.choice(["meta", "arrays", "metadata", "entries"])
    if which in ("meta", "arrays"):
        content["__metadata__"] = inside | {which: json.dumps(_mutated(json.loads(inside[which]), "type", rng))}
    elif which == "metadata":
        field = rng.choice([name for name in inside if name not in ("format", "header_sha256")])
        content["__metadata__"] = inside | {field: rng.choice(OTHER_TYPES)}
    else:
        entries = {name: entry for name, entry in content.items() if name != "__metadata__"}
        content = {"__metadata__": inside, **_mutated(entries, "type", rng)}
    content["__metadata__"]["header_sha256"] = "0" * 64
    text = json.dumps(content, separators=(",", ":")).encode()
    blank = len(text).to_bytes(8, "little") + text
    seal = hashlib.sha256(blank).hexdigest().encode()
    _write(path, blank.replace(b"0" * 64, seal, 1) + raw[8 + length :])


def call(*options: Any, pace: Pace = Pace()) -> tuple[int | str, str]:
    """Run the command line in this process; return its exit code ("traceback" for any exception) and what it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            return T.main([*map(str, options)], pace), said.getvalue()
        except SystemExit as leave:
            return leave.code if isinstance(leave.code, int) else 1, said.getvalue()
        except BaseException as error:  # what a user would see as a traceback
            return "traceback", f"{said.getvalue()}{type(error).__name__}: {error}"


def outcome(folder: Path) -> dict[str, Any]:
    """Return all that a run leaves, but for times: what a damage must not change unsaid."""
    summary = json.loads((folder / "summary.json").read_bytes())
    best = checkpoint.best_path(folder / "checkpoints")
    return {
        "summary": {k: summary[k] for k in ("status", "params_sha256", "test", "best", "end", "dispatch")},
        "last": {k: v for k, v in summary["last"].items() if k != "seconds"},
        "config": json.loads((folder / "config.json").read_bytes()),
        "env": json.loads((folder / "env.json").read_bytes()),
        "rows": [{**row, "seconds": None} for row in read_metrics(folder / "metrics.jsonl")],
        "steps": checkpoint.steps(folder / "checkpoints")[:1],
        "best": checkpoint.load(best).step if best.exists() else None,
        "figures": {p.name for p in (folder / "figures").glob("*.png")},
    }


def judge(code: int | str, said: str, damage: Damage, folder: Path, before: Path, expected: dict[str, Any]) -> Verdict:
    """Return the verdict on a command that ran in `folder`, which was `before` until it was damaged."""
    if code == "traceback" or "Traceback" in said:
        return Verdict("traceback", said)
    if code != 0:
        words = said.strip()
        name = damage.name.partition(":")[0]
        told = name.rpartition("/")[2] in words or name in words
        return Verdict("refused" if told and len(words.splitlines()) <= 4 else "wordy", words)
    try:
        now = outcome(folder)
        notes = [(folder / n).read_bytes().startswith((before / n).read_bytes()) for n in ("command.txt",)]
    except BaseException as error:
        return Verdict("silent", f"unreadable afterwards: {type(error).__name__}: {error}")
    different = [name for name in expected if now[name] != expected[name]]
    if not all(notes):
        different.append("command.txt")
    told = damage.name.partition(":")[0].rpartition("/")[2] in said
    kind = "same" if not different else "told" if told and different == ["figures"] else "silent"
    return Verdict(kind, f"{different} {said}")
