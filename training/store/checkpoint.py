"""A checkpoint store that verifies itself.

A checkpoint is one safetensors file: 8 bytes of header length, a JSON header, the arrays' bytes. It is
written here and not by the safetensors package for two reasons: arrays stream to the disk one by one, so
a full disk is an ordinary OSError, and the header carries its own seal. Every byte is covered: the header
and its length by `header_sha256` (taken with that field zeroed), each array by its own SHA-256, and arrays
lie without gaps. Any safetensors reader opens these files.
Format: https://github.com/huggingface/safetensors#format
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from .arrays import Stored, is_key, named_leaves, params_sha256, sha256, signature, store, unstore
from .errors import DamagedCheckpoint, RunError
from .files import doing, make_folder, replacing, temporary_path, to_json
from .schema import ARRAYS, CHECKPOINT, ENTRIES, fault, parse_json

__all__ = ["Checkpoint", "best_path", "latest", "load", "params_sha256", "restore_like", "save", "steps", "write"]

BEST = "best.safetensors"
KEEP = 2
_FORMAT = "autoencoders-jax checkpoint 1"
_SEAL = b'"header_sha256":"%s"'
_UNSEALED = b"0" * 64
_NAMES = {"bool": "BOOL", "bfloat16": "BF16", "complex64": "C64"} | {
    f"{long}{bits}": f"{short}{bits}"
    for long, short, sizes in (
        ("float", "F", (16, 32, 64)),
        ("int", "I", (8, 16, 32, 64)),
        ("uint", "U", (8, 16, 32, 64)),
    )
    for bits in sizes
}


class Checkpoint(NamedTuple):
    """What a file holds: the step, the caller's `meta`, and its arrays by key-path name."""

    step: int
    meta: dict[str, Any]
    arrays: dict[str, Any]


def _header(arrays: list[tuple[str, Stored]], step: int, meta: dict[str, Any]) -> bytes:
    """Return length and sealed JSON header of a file that holds `arrays` in this order."""
    entries: dict[str, Any] = {}
    record: dict[str, Any] = {}
    at = 0
    for name, (dtype, shape, data) in arrays:
        native = dtype in _NAMES  # other types (complex128, keys, int4) lie there as plain bytes
        entries[name] = {
            "dtype": _NAMES.get(dtype, "U8"),
            "shape": list(shape) if native else [data.size],
            "data_offsets": [at, at + data.size],
        }
        record[name] = {"dtype": dtype, "shape": list(shape), "sha256": sha256(data)}
        at += data.size
    metadata = {
        "format": _FORMAT,
        "step": str(step),
        "meta": to_json(meta),
        "arrays": json.dumps(record),
        "header_sha256": _UNSEALED.decode(),
    }
    text = json.dumps({"__metadata__": metadata, **entries}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    blank = len(text).to_bytes(8, "little") + text
    seal = hashlib.sha256(blank).hexdigest().encode()
    return blank.replace(_SEAL % _UNSEALED, _SEAL % seal, 1)


def step_path(folder: Path, step: int) -> Path:
    """Return the file name of the checkpoint of `step`."""
    return folder / f"step-{step:09d}.safetensors"


def best_path(folder: Path) -> Path:
    """Return where the best checkpoint lies (it may not exist yet)."""
    return folder / BEST


def steps(folder: Path) -> list[int]:
    """Return the steps that have a checkpoint file of their own, newest first; nothing is verified."""
    found = (p.stem.removeprefix("step-") for p in folder.glob("step-*.safetensors"))
    return sorted((int(s) for s in found if s.isdigit()), reverse=True)


def save(folder: Path, step: int, tree: Any, meta: dict[str, Any], best: bool = False) -> Path:
    """Write the checkpoint of `step`, as the best one too if said so; keep the last two and the best.

    `tree` is any pytree of arrays, `meta` anything with a JSON form. The file is complete and synced
    before it gets its name; the best one gets its name first, so that a kill between the two leaves a
    best that a resumed run reaches again. Files of later steps are of a continuation that was given up
    and go. Raises RunError (disk full, no permission) and then leaves all as it was.
    """
    make_folder(folder)
    path = step_path(folder, step)
    write(path, step, tree, meta, (lambda written: _link(written, best_path(folder))) if best else None)
    kept = [s for s in steps(folder) if s <= step][:KEEP]
    for old in set(steps(folder)) - set(kept):
        with doing("delete", step_path(folder, old)):
            step_path(folder, old).unlink(missing_ok=True)
    return path


def write(
    path: Path, step: int, tree: Any, meta: dict[str, Any], before_rename: Callable[[Path], None] | None = None
) -> None:
    """Write one file, whole or not at all; `before_rename` is that of `replacing`. Raises RunError."""
    arrays = [(name, store(name, leaf)) for name, leaf in _on_host(tree)]
    arrays.sort(key=lambda a: (-np.gcd(8, a[1].data.size), a[0]))  # sizes in multiples of 8 first: all aligned
    header = _header(arrays, step, meta)
    size = len(header) + sum(stored.data.size for _, stored in arrays)
    with replacing(path, before_rename, size) as file:
        file.write(header)
        for _, stored in arrays:
            file.write(stored.data.data)


def _on_host(tree: Any) -> list[tuple[str, Any]]:
    """Return named leaves with all device arrays fetched together."""
    named = named_leaves(tree)
    leaves = jax.device_get([None if is_key(leaf) else leaf for _, leaf in named])
    return [(name, leaf if is_key(leaf) else host) for (name, leaf), host in zip(named, leaves, strict=True)]


def _link(source: Path, target: Path) -> None:
    """Give a complete file a second name, atomically; copy where the disk has no hard links."""
    temporary = temporary_path(target)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            with open(source, "rb") as original, open(temporary, "xb") as file:
                shutil.copyfileobj(original, file)
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def load(path: Path) -> Checkpoint:
    """Read and verify one file. Raises DamagedCheckpoint, naming the file and the first thing wrong."""
    try:
        if path.exists() and not path.is_file():
            raise DamagedCheckpoint(f"cannot read checkpoint {path}: it is no regular file")
        raw = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DamagedCheckpoint(f"cannot read checkpoint {path}: {error.strerror}") from error
    try:
        return _parse(raw)
    except _Damage as error:
        raise DamagedCheckpoint(f"refused checkpoint {path}: {error}") from error
    except MemoryError as error:
        raise DamagedCheckpoint(f"refused checkpoint {path}: no memory for its {raw.size:,} bytes") from error


class _Damage(Exception):
    """What is wrong with a file, in words."""


def _parse(raw: np.ndarray) -> Checkpoint:
    if raw.size < 8:
        raise _Damage(f"cut short: {raw.size} bytes")
    length = int.from_bytes(raw[:8].tobytes(), "little")
    header = raw[: 8 + length].tobytes()
    if not header[8:].startswith(b'{"__metadata__":{"format":"%s"' % _FORMAT.encode()):
        raise _Damage("not a checkpoint of this program, or its header is damaged")
    if raw.size < 8 + length:
        raise _Damage(f"cut short: {raw.size} bytes, the header alone has {8 + length}")
    before, mark, after = header.partition(_SEAL.partition(b"%")[0])
    blank = before + mark + _UNSEALED + after[len(_UNSEALED) :]
    if hashlib.sha256(blank).hexdigest().encode() != after[: len(_UNSEALED)]:
        raise _Damage("SHA-256 of the header does not match")
    try:  # the seal matches, so whatever is wrong from here on was sealed as it is
        return _unpack(header[8:], raw[8 + length :])
    except (ValueError, KeyError, TypeError, OverflowError, AttributeError) as error:
        raise _Damage(f"its header is not that of a checkpoint: {error}") from None


def _unpack(header: bytes, data: np.ndarray) -> Checkpoint:
    """Return the content of a file. Raises _Damage, or ValueError and its like for fields that cannot be."""
    content = parse_json(header)
    metadata = content.pop("__metadata__")
    record = parse_json(metadata["arrays"], ARRAYS) if not (wrong := fault(metadata, CHECKPOINT)) else {}
    if wrong := wrong or fault(content, ENTRIES):
        raise ValueError(wrong)
    expected = max((entry["data_offsets"][1] for entry in content.values()), default=0)
    if data.size != expected:
        raise _Damage(f"{data.size} bytes of arrays where {expected} were written")
    arrays = {}
    for name, entry in record.items():
        begin, end = content[name]["data_offsets"]
        if not 0 <= begin <= end:
            raise ValueError(f"{name} lies at {begin} to {end}")
        if sha256(data[begin:end]) != entry["sha256"]:
            raise _Damage(f"SHA-256 of array {name} does not match")
        arrays[name] = unstore(Stored(entry["dtype"], tuple(entry["shape"]), data[begin:end]))
    return Checkpoint(int(metadata["step"]), parse_json(metadata["meta"], {str: object}), arrays)


def latest(
    folder: Path,
    report: Callable[[str], None] = print,
    difference: Callable[[dict[str, Any]], str | None] = lambda _: None,
) -> tuple[Path, dict[str, Any]] | None:
    """Return (path, meta) of the newest checkpoint that verifies; None where there is none at all.

    Walks back over the step files and the best one; `report` gets one line for each that is refused.
    `difference(meta)` says in words why a sound file does not belong here (None: it does); that one is refused too.
    Raises DamagedCheckpoint when there are files and all are refused. Nothing is written or locked.
    """
    candidates = [step_path(folder, s) for s in steps(folder)]
    best = best_path(folder)
    newest: tuple[int, Path, dict[str, Any]] | None = None
    refused = []
    for path in ([best] if best.exists() else []) + candidates:
        if newest is not None and path != best and int(path.stem.removeprefix("step-")) < newest[0]:
            break
        try:
            step, meta, _ = load(path)
            check_place(path, step, meta, difference)
        except DamagedCheckpoint as error:
            refused.append(path.name)
            report(str(error))
            continue
        if newest is None or step >= newest[0]:
            newest = (step, path, meta)
    if newest is None and refused:
        raise DamagedCheckpoint(
            f"no checkpoint in {folder} can be used, refused: {', '.join(refused)}; start again with another --run-dir"
        )
    if newest is None:
        return None
    return newest[1], newest[2]


def check_place(
    path: Path, step: int, meta: dict[str, Any], difference: Callable[[dict[str, Any]], str | None]
) -> None:
    """Raise DamagedCheckpoint for a sound file that belongs to another step or run than the one it lies under."""
    named = path.stem.removeprefix("step-")
    wrong = f"it holds step {step}" if named.isdigit() and int(named) != step else difference(meta)
    if wrong:
        raise DamagedCheckpoint(f"refused checkpoint {path}: {wrong}")


def restore_like(template: Any, path: Path) -> Any:
    """Return the checkpoint's arrays in the structure of `template`.

    Where the template holds a `jax.Array` (or a ShapeDtypeStruct with a sharding) the value is placed as
    it is there; elsewhere it stays NumPy. Raises DamagedCheckpoint for a file that does not verify, and
    RunError naming the first leaf that is missing, unknown, or of another shape or dtype.
    """
    arrays = load(path).arrays
    named = named_leaves(template)
    hint = f"{path} was written by another model or optimizer; use the config.json beside it (--from)"
    for name, leaf in named:
        wanted = signature(leaf)
        if name not in arrays:
            raise RunError(f"checkpoint has no array {name} ({wanted[0]} {wanted[1]}): {hint}")
        found = signature(arrays[name])
        if found != wanted:
            raise RunError(f"{name} is {found[0]} {found[1]} in the checkpoint, {wanted[0]} {wanted[1]} here: {hint}")
    unknown = sorted(set(arrays) - {name for name, _ in named})
    if unknown:
        raise RunError(f"checkpoint has an array {unknown[0]} that this run has not: {hint}")
    return jax.tree.unflatten(jax.tree.structure(template), [_place(arrays[name], leaf) for name, leaf in named])


def _place(value: Any, like: Any) -> Any:
    sharding = getattr(like, "sharding", None)
    if sharding is None:
        return value
    return jax.device_put(value, sharding, may_alias=False)  # the buffer may be donated later
