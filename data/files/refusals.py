"""What a file or folder is that `file:` does not read, and what to do with it: one line for each kind."""

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np

from data.dataset import names_of
from data.errors import DataError, shown
from data.stored import is_class

READ = (".npz", ".npy", ".npy.gz", ".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".mat", ".h5", ".hdf5", ".zip")
IDX = re.compile(r"(idx\d?(-ubyte)?|\.idx)(\.gz)?$")
_CUT = "cut them into rows of equal length, and np.save these as one array (n, d)"
_KINDS: tuple[tuple[tuple[str, ...], str], ...] = (
    ((".mp3", ".flac", ".ogg", ".aiff", ".m4a", ".au"), f"sound; convert it to wav, or read its samples and {_CUT}"),
    ((".mp4", ".avi", ".mov", ".mkv", ".webm"), "a film; save its frames as pictures in a folder"),
    (
        (".tsf", ".arff"),
        "series or records in text; save one series a row, as csv, or as an array (n, d) in npy",
    ),
    ((".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml"), "records in text; save its numbers as csv, one row each"),
    ((".xlsx", ".xls", ".ods"), "a spreadsheet; export it as csv"),
    ((".feather", ".arrow", ".orc", ".avro", ".sqlite", ".db", ".dta", ".sav", ".rds"), "a table; save it as parquet"),
    ((".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt"), "Python objects, which are never unpickled; np.save"),
    ((".safetensors", ".onnx", ".gguf"), "weights, not data; a trained run is used with python -m experiments.apply"),
    ((".tfrecord", ".array_record", ".riegeli"), "records of TFDS; give their folder: --dataset tfds:NAME --data-dir"),
    ((".dcm", ".nii", ".nii.gz", ".nrrd", ".svg", ".psd", ".heic", ".exr"), "a picture; save it as png, or npy"),
    (
        (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar", ".bz2", ".xz", ".zst", ".gz"),
        "an archive; unpack it, and give the folder or the file that is in it",
    ),
)


def unknown_file(path: Path, content: bytes, pictures: tuple[str, ...]) -> DataError:
    """Return the refusal of a file of another kind: what it is, and the way out."""
    where, what = f"file:{shown(path, 200)}", kind_of(path.name)
    if what is None and (separator := _tabular(content)):
        what = f"rows of numbers in text, cut by {separator}; name it .csv"
    if what is None:
        what = "of an unknown kind; convert it to one of these"
    known = f"txt, npz, npy, idx (also .gz), csv, tsv (also .gz), parquet, mat, h5, a picture ({', '.join(pictures)})"
    return DataError(f"{where}: {what} (known are {known}, a folder or a zip of pictures)")


def kind_of(name: str) -> str | None:
    """Return what a file is by its name, with what to do; None for an unknown one."""
    found = ((ends, what) for ends, what in _KINDS if name.lower().endswith(ends))
    return next((what for _, what in found), None)


def _tabular(content: bytes) -> str | None:
    """Return in words the separator that cuts the first lines into equally many numbers; None where there is none."""
    try:
        lines = [line for line in content[:20_000].decode("utf-8").splitlines()[:20] if line.strip()]
    except UnicodeDecodeError:
        return None
    for separator, word in ((",", "commas"), (";", "semicolons"), ("\t", "tabs")):
        rows = [row for row in csv.reader(lines[1:], delimiter=separator)]
        if len(rows) > 1 and len({len(r) for r in rows}) == 1 and len(rows[0]) > 1 and any(map(_number, rows[-1])):
            return word
    return None


def _number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def no_pictures(path: Path, pictures: tuple[str, ...]) -> DataError:
    """Return the refusal of a folder or zip without pictures: what lies in it, and the way out."""
    where = shown(path, 200)
    said = f"{where}: no images ({', '.join(pictures)}) in it or in its class folders"
    if not path.is_dir():
        return DataError(f"{said}; unpack it, and give the file that is in it")
    inside = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    if (path / "config.json").is_file() and (path / "checkpoints").is_dir():
        return DataError(f"{said}: it is the folder of a run; a run is used with python -m experiments.apply {where}")
    single = [p for p in inside if p.is_file() and (p.name.lower().endswith(READ) or IDX.search(p.name.lower()))]
    if single:
        names = names_of([shown(p.name) for p in single])
        return DataError(f"{said}; a folder holds pictures, a file is given by itself: file:{single[0]} ({names})")
    if not inside:
        return DataError(f"{said}: it is empty")
    kinds = Counter(p.suffix.lower() if p.is_file() else "folders" for p in inside)
    held = names_of([f"{n} {shown(kind) or 'without ending'}" for kind, n in kinds.most_common()])
    what = next((w for p in inside if p.is_file() and (w := kind_of(p.name))), None)
    return DataError(
        f"{said}; it holds {held}{f': {what}' if what else '; give the folder or file that holds the data'}"
    )


def refuse_labels(x: np.ndarray, where: str, path: Path) -> None:
    """Raise DataError for one number per example: labels, where these are few whole numbers, or a single column."""
    if x.ndim != 1 or not len(x):
        return
    few = x.dtype.kind in "USb" or (x.dtype.kind in "uif" and is_class(x) and len(np.unique(x[:100_000])) <= 1000)
    if not few:
        return
    beside = path.with_name(path.name.replace("labels", "images").replace("idx1", "idx3"))
    way = f"file:{shown(beside, 200)}" if beside != path and beside.is_file() else "the file of the examples"
    column = "" if x.dtype.kind in "US" else ", or, if these are examples of one number each, save x.reshape(-1, 1)"
    what = f"{len(x):,} labels without examples (shape {x.shape}, {len(np.unique(x)):,} values)"
    raise DataError(f"{where}: {what}; give {way}{column}")


def refuse_packed(x: np.ndarray, where: str, name: str) -> None:
    """Raise DataError for bytes that hold eight bits each, by the name of their file."""
    if x.ndim == 2 and x.dtype == np.uint8 and "packed" in name.lower() and x.max(initial=0) > 1:
        raise DataError(
            f"{where}: packed bits, {x.shape[1]} bytes for {8 * x.shape[1]} bits a row; "
            "save np.unpackbits(x, axis=1), as pictures .reshape(-1, height, width)"
        )
