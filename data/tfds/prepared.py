"""Folders prepared by TensorFlow Datasets, read without TensorFlow: array_record and tfrecord."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.errors import DataError, shown
from data.tfds.registry import import_tfds
from data.tfds.tfrecord import TFRecords

_VERSION = re.compile(r"\d+\.\d+\.\d+")


def roots(data_dir: Path | None, cache: Path) -> list[Path]:
    """Return the folders that may hold prepared sets: data_dir, TFDS's own default, our cache."""
    home = os.path.expanduser("~")
    default = os.environ.get("TFDS_DATA_DIR") or os.path.join(
        os.devnull if home == "~" else home, "tensorflow_datasets"
    )
    return [*([data_dir] if data_dir else []), Path(default), cache / "tfds"]


def find(builder: str, among: Sequence[Path]) -> Path | None:
    """Return the newest prepared folder of "name[/config][:version]", or None.

    A prepared folder is <root>/<name>/[<config>/]<version> with dataset_info.json and features.json. Without
    a config a lone configuration is taken; DataError when there are several to choose from.
    """
    path, _, version = builder.partition(":")
    for root in among:
        places = _versions(root / path, version)
        if not places and "/" not in path and (root / path).is_dir():
            configs = {c.name: v for c in sorted((root / path).iterdir()) if (v := _versions(c, version))}
            if len(configs) > 1:
                raise DataError(f"tfds:{builder}: several configurations in {root / path}: {', '.join(configs)}")
            places = next(iter(configs.values()), [])
        if places:
            return places[-1]
    return None


def _versions(folder: Path, wanted: str) -> list[Path]:
    """Return the complete prepared versions in a folder, oldest first."""
    if not folder.is_dir():
        return []
    places = [
        p
        for p in folder.iterdir()
        if _VERSION.fullmatch(p.name)
        and wanted in ("", p.name)
        and all((p / f).is_file() for f in ("dataset_info.json", "features.json"))
    ]
    return sorted(places, key=lambda p: tuple(map(int, p.name.split("."))))


def open_folder(folder: Path) -> Any:
    """Return the TFDS builder of a prepared folder; DataError when its description is damaged."""
    _check_classes(folder / "features.json")
    tfds = import_tfds()
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # protobuf and json errors of many kinds
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"{folder}: not a readable prepared TFDS folder ({reason}); prepare it again") from None


_KNOWN = re.compile(r"tensorflow_datasets\.core\.features\.(\w+\.)?[A-Z]\w*")


def _check_classes(path: Path) -> None:
    """Raise DataError when the description names a class that is none of TFDS's features: it would be imported."""
    try:
        text = path.read_bytes()
        if len(text) > 2**24:
            raise ValueError(f"{len(text)} bytes")
        todo: list[Any] = [json.loads(text)]
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a readable description ({shown(error)}); prepare the set again") from None
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            name = item.get("pythonClassName", item.get("type") if "content" in item else None)
            if name is not None and not (isinstance(name, str) and _KNOWN.fullmatch(name)):
                raise DataError(f"{path}: names the feature class {shown(name)!r}, which is none of TFDS's; not opened")
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)


def too_deep(name: str, data_dir: Path | None) -> str:
    """Return advice when `data_dir` is the folder of the set itself (or of a version of it), else ""."""
    if data_dir is None:
        return ""
    plain = name.partition(":")[0].partition("/")[0]
    for place in (data_dir.resolve(), *list(data_dir.resolve().parents)[:2]):
        if place.name == plain:
            return f"; --data-dir {shown(data_dir, 200)} seems one level too deep: give {shown(place.parent, 200)}"
    return ""


def parts(builder: Any) -> list[str]:
    """Return the names of a builder's splits; TFDS's mocked builders know none and have train and test."""
    return sorted(builder.info.splits) or ["train", "test"]


def records(builder: Any, part: str) -> Sequence[Any]:
    """Return the examples of one split, decoded (images through PIL), at random access, read when asked for.

    Random-access formats come from TFDS's own `as_data_source`; tfrecord from our reader.
    """
    info = builder.info
    if info.splits and str(getattr(info.file_format, "value", "")) == "tfrecord":
        split = info.splits[part]
        return TFRecords(
            [Path(p) for p in split.filepaths],
            list(split.shard_lengths),
            info.features.deserialize_example_np,
        )
    try:
        return builder.as_data_source(split=part)
    except (NotImplementedError, ValueError, OSError, RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{info.full_name}: split {part!r} cannot be read ({reason})") from None
