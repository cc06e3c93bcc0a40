"""Which kind a file is: by --kind, by its name and the words after #, by the first lines of a table."""

from pathlib import Path

from data.errors import DataError, shown
from data.files import arrays, tables
from data.files.kinds import ratings, series, text, ts, wav
from data.files.pictures import KINDS as PICTURES
from data.options import Options

WORDS = {
    "image": "pictures: png, jpeg ..., a folder or zip of them, arrays (n, H, W) or (n, H, W, C)",
    "table": "rows of numbers: csv, tsv, parquet, arrays (n, d)",
    "series": "values in order of time: .ts, csv with a column of time, arrays",
    "text": "texts: txt, md, rst, log",
    "audio": "sound: wav, a folder, zip or tar of them",
    "ratings": "rows of user, item and rating: csv, tsv, ::, npz, parquet",
}


def kinds_of(path: Path) -> tuple[str, ...]:
    """Return the kinds that a file can be by its name; () for an unknown one."""
    name = path.name.lower()
    if text.is_text(path):
        return ("text",)
    if wav.is_audio(path):
        return ("audio",)
    if name.endswith(ts.KINDS):
        return ("series",)
    if name in ("u.data", "ratings.dat"):
        return ("ratings",)
    more = ("ratings",) if name.endswith(ratings.KINDS) else ()
    if name.endswith(tables.KINDS):
        return ("table", "series", *more)
    if name.endswith(arrays.KINDS):
        return ("table", "image", "series", *more)
    if name.endswith(PICTURES) or path.is_dir():
        return ("image",)
    return ()


def chosen(path: Path, words: str, options: Options) -> str:
    """Return the kind that a file is read as: text, audio, ratings, series; "plain" where values decide: table, image.

    Raises DataError for a --kind that the file cannot be.
    """
    if options.kind == "ratings" and path.name.lower().endswith(ratings.KINDS):
        return "ratings"
    can = kinds_of(path)
    if options.kind not in ("auto", *can) and can:
        raise DataError(
            f"{shown(path, 200)}: --kind {options.kind} ({WORDS[options.kind]}) does not fit this file, which can be "
            f"{' or '.join(can)}; leave --kind away"
        )
    if can in (("text",), ("audio",), ("ratings",)):
        return can[0]
    if "ratings" in can and options.kind == "auto" and ratings.looks_like(path):
        return "ratings"
    if "series" in can and (
        options.kind == "series" or (options.kind == "auto" and series.looks_like(path, words, options))
    ):
        return "series"
    return "plain"


def check_kind(asked: str, found: str, where: str) -> None:
    """Raise DataError where what was read is of another kind than --kind says."""
    if asked not in ("auto", found):
        raise DataError(f"{where}: --kind {asked} ({WORDS[asked]}) was asked for, its values are of kind {found}")
