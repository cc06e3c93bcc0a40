"""`read`: a file or folder of the user's as raw arrays, not split; what `file:` is made from."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import digest
from data.errors import DataError, at_home, shown
from data.files import arrays, formats, images, refusals, tables
from data.files.kinds import audio, choose, ratings, series, text
from data.files.pictures import KINDS as PICTURES
from data.files.pictures import decode_stack
from data.files.reading import Part, Reading, missing_in
from data.options import Options


def read(path: str | Path, options: Options | None = None, *, like: Mapping[str, Any] | None = None) -> Reading:
    """Return what a file or folder holds: npz, npy, npy.gz, idx, csv, tsv, parquet, mat, h5, pictures, a zip of them.

    path: "PATH#NAME" chooses one array of a file. options: see `Options`. like: the record of a run's data
    (`Dataset.record()`): its columns, categories, label, size and channels are used again, and values of another
    shape are refused. A single picture is a set of one, or of its frames. Raises DataError, one line, naming the file,
    what is wrong and the way out.
    """
    options = options or Options()
    how = dict((like or {}).get("reading", {})) if like else {}
    if how:
        resize = how.get("resize")
        options = Options(
            label=options.label or how.get("label", ""),
            ignore=tuple(how.get("ignore", ())),
            resize=tuple(resize) if resize else None,
            channels=int(how.get("channels", 0)),
            kind="series" if how.get("series") else "ratings" if how.get("ratings") else "auto",
        )
    place, key = located(path)
    kind = choose.chosen(place, key, options)
    if kind == "text":
        return text.read_text(place, key, like)
    if kind == "audio":
        return audio.read_audio(place, key, like)
    if kind == "ratings":
        return ratings.read_ratings(place, key, like)
    if kind == "series":
        return series.read_series(place, key, options, like)
    found = _read(place, key or how.get("key", ""), options, how)
    return found if like is None else _as_before(found, like, str(place))


def located(path: str | Path) -> tuple[Path, str]:
    """Return the file and the array's name in "PATH#NAME"; a file whose own name holds # is taken as it is."""
    text = str(path)
    whole = at_home(text)
    if "#" in text and not _exists(whole):
        head, _, key = text.rpartition("#")
        return at_home(head), key
    return whole, ""


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, zero bytes
        return False


def _read(path: Path, key: str, options: Options, how: Mapping[str, Any]) -> Reading:
    if not _exists(path):
        raise DataError(f"file:{shown(path, 200)}: there is no such file or folder")
    if path.is_dir():
        return _pictures(path, options, {})
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise DataError(f"file:{shown(path, 200)}: neither a file nor a folder")
    content, name = formats.read_bytes(path), path.name.lower()
    sha256 = {shown(path.name, 200): digest(content)}
    if name.endswith(tables.KINDS):
        table = tables.read_table(content, path, options, how)
        part = Part(table.x, table.y, table.names)
        return Reading({"all": part}, table.columns, (), table.how, table.remarks, sha256, table.ordered)
    if name.endswith(PICTURES):
        x, remarks = decode_stack(content, str(path), options)
        names = [path.name] if len(x) == 1 else [f"{path.name} {i + 1}" for i in range(len(x))]
        return Reading({"all": Part(x, None, names)}, (), (), _size(options), remarks, sha256, len(x) > 1)
    if name.endswith(".zip") or (
        content[:2] == b"PK" and not name.endswith(".npz") and images.zip_has_pictures(content)
    ):
        return _pictures(path, options, sha256)
    if name.endswith(arrays.KINDS) or refusals.IDX.search(name) or content[:3] == b"\0\0\x08":
        return _arrays(path, content, key, options, sha256)
    raise refusals.unknown_file(path, content, PICTURES)


def _size(options: Options) -> dict[str, Any]:
    return {"resize": list(options.resize) if options.resize else None, "channels": options.channels}


def _pictures(path: Path, options: Options, sha256: dict[str, str]) -> Reading:
    parts, classes, remarks = images.read_images(path, options)
    if options.resize:
        remarks.append(f"resized to {options.resize[0]}x{options.resize[1]}")
    if options.label == "none":
        parts, classes = {k: p._replace(y=None) for k, p in parts.items()}, []
    return Reading(parts, (), tuple(shown(c) for c in classes), _size(options), tuple(remarks), sha256)


def _arrays(path: Path, content: bytes, key: str, options: Options, sha256: dict[str, str]) -> Reading:
    where = shown(path, 200)
    held = arrays.arrays_of(content, path)
    parts, remarks = arrays.parts_of(held, where, key, options.label)
    if list(parts) == ["all"] and parts["all"].y is None and options.label != "none":
        beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
        if beside != path and refusals.IDX.search(path.name.lower()) and beside.is_file():
            labels = formats.read_bytes(beside)
            parts = {"all": parts["all"]._replace(y=formats.parse_idx(labels, str(beside)))}
            sha256[beside.name] = digest(labels)
            remarks.append(f"labels: {beside.name} beside it")
    holes = missing_in(parts, where)
    how = {"key": key, "label": options.label} | ({"missing": True} if holes else {})
    return Reading(parts, (), (), how, tuple([*remarks, *([holes] if holes else [])]), sha256)


def _as_before(found: Reading, record: Mapping[str, Any], where: str) -> Reading:
    """Return a reading whose columns are those of the record, in its order; DataError where it does not fit."""
    wanted = tuple(record.get("columns") or ())
    shape = tuple(record.get("shape") or ())
    if wanted and found.columns:
        missing = [c for c in wanted if c not in found.columns]
        if missing:
            raise DataError(
                f"{where}: columns of the training data are not there: {', '.join(missing[:6])}; "
                f"it has {', '.join(found.columns[:12])}"
            )
        take = [found.columns.index(c) for c in wanted]
        parts = {k: p._replace(x=p.x[:, take]) for k, p in found.parts.items()}
        left = tuple(f"column {c!r} was not there in training: left out" for c in found.columns if c not in wanted)
        return Reading(parts, wanted, found.classes, found.how, (*found.remarks, *left), found.sha256, found.ordered)
    parts = {key: p._replace(x=_shaped(p.x, shape, where)) for key, p in found.parts.items()}
    return Reading(parts, found.columns, found.classes, found.how, found.remarks, found.sha256, found.ordered)


def _shaped(x: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return examples (n, *shape): one example alone gets its batch axis, a lone channel its axis."""
    for form in (x, x[..., None], x[None], x[None, ..., None]):
        if form.shape[1:] == shape:
            return form
    raise DataError(
        f"{where}: examples of shape {x.shape[1:]}, the run was trained on {shape}; "
        f"give (n, {', '.join(map(str, shape))})"
    )
