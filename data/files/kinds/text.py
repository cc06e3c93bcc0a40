"""Texts: symbols of a text as rows of whole numbers, with the vocabulary of the training split; and back.

    file:x.txt#UNIT/CUT/LENGTH   UNIT characters (or words, bytes); CUT lines, line or windows; LENGTH in symbols

lines: an example holds whole lines, as many as fit; line: one each; windows: pieces of equal length. Symbol 0 ends an
example that is shorter than the others and fills it up, 1 stands for a symbol that training has not seen; the rest are
the vocabulary, frequent ones first. The order is kept and splits are blocks: neighbours stay in one split.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.dataset import Dataset, Split, digest
from data.errors import DataError, counted, nearest, shown
from data.files.formats import read_bytes
from data.files.reading import Part, Reading
from data.options import Options
from data.splits import divide

KINDS = (".txt", ".text", ".md", ".rst", ".log")
UNITS, CUTS = ("characters", "words", "bytes"), ("lines", "line", "windows")
MOST = 20_000  # symbols of a vocabulary; what is rarer is unknown
WINDOW, LONGEST, WASTE = 64, 512, 0.2
_WORDS = re.compile(r"\w+|[^\w\s]|\n|[^\S\n]+")
UNSEEN = "\N{REPLACEMENT CHARACTER}"


class How(NamedTuple):
    """How a text is cut: unit, cut ("" as its lines suggest) and symbols of an example (0: chosen)."""

    unit: str = "characters"
    cut: str = ""
    length: int = 0


def is_text(path: Path) -> bool:
    """Whether a file is read as text, by its name."""
    return path.name.lower().endswith(KINDS) and path.is_file()


def how_of(words: str, where: str) -> How:
    """Return what "UNIT/CUT/LENGTH" says, any of them left out; DataError for what is none of these."""
    how = How()
    for word in filter(None, words.split("/")):
        if word in UNITS:
            how = how._replace(unit=word)
        elif word in CUTS:
            how = how._replace(cut=word)
        elif word.isdecimal() and 2 <= int(word) <= 100_000:
            how = how._replace(length=int(word))
        else:
            known = f"{', '.join((*UNITS, *CUTS))}, or a length in symbols from 2 up"
            raise DataError(
                f"{where}: {shown(word)!r} after # is none of {known}; nearest: {nearest(word, (*UNITS, *CUTS))}"
            )
    return how


def text_of(content: bytes, unit: str, where: str) -> str:
    """Return a file's text, line ends as \\n; of bytes each as a character. DataError where it is empty or no UTF-8."""
    if unit == "bytes":
        text = content.decode("latin-1")
    else:
        try:
            text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            byte = content[error.start]
            raise DataError(
                f"{where}: byte {error.start} ({byte:#04x}) is no UTF-8; save the text as UTF-8, or read file:...#bytes"
            ) from None
    if not text.strip():
        raise DataError(f"{where}: the text is empty ({len(content)} bytes, nothing but blanks)")
    return text


def pieces(text: str, unit: str) -> list[str]:
    """Return the symbols of a text: characters, or words, signs and blanks."""
    return _WORDS.findall(text) if unit == "words" else list(text)


def examples_of(text: str, how: How, where: str) -> tuple[list[list[str]], How]:
    """Return the examples of a text, at most `length` symbols each, and how they came about, filled in."""
    if how.cut == "windows" or (not how.cut and not _has_lines(text)):
        length = how.length or WINDOW
        symbols = pieces(text, how.unit)
        rows = [symbols[i : i + length] for i in range(0, len(symbols), length)]
        return rows[:-1] if len(rows) > 1 and len(rows[-1]) < length // 2 else rows, How(how.unit, "windows", length)
    lines = [p for line in text.splitlines() if (p := pieces(line, how.unit)) and line.strip()]
    longest = max(map(len, lines))
    if how.cut == "line":
        length = how.length or min(longest, LONGEST)
        rows = [line[i : i + length] for line in lines for i in range(0, len(line), length)]
        return rows, How(how.unit, "line", length)
    for length in [how.length] if how.length else [*range(WINDOW, LONGEST, WINDOW), LONGEST]:
        rows = _together(lines, length)
        if waste_of(rows, length) < WASTE:
            break
    return rows, How(how.unit, "lines", length)


def _has_lines(text: str) -> bool:
    lengths = [len(line) for line in text.splitlines() if line.strip()]
    return len(lengths) >= 10 and max(lengths) <= LONGEST


def _together(lines: Iterable[list[str]], length: int) -> list[list[str]]:
    """Return rows of whole lines, each ended by a line end, as many as fit; a line longer than a row is cut."""
    rows: list[list[str]] = [[]]
    for line in lines:
        rest = [*line, "\n"]
        if len(rows[-1]) + len(rest) > length and rows[-1]:
            rows.append([])
        while len(rest) > length:
            rows[-1], rest = rest[:length], rest[length:]
            rows.append([])
        rows[-1] = rows[-1] + rest
    return [row for row in rows if row]


def waste_of(rows: Sequence[Sequence[str]], length: int) -> float:
    """Return the share of the places of all examples that padding fills."""
    return 1 - sum(map(len, rows)) / (length * len(rows))


def vocabulary(rows: Iterable[Sequence[str]], unit: str) -> list[str]:
    """Return the symbols of the training rows, frequent ones first; of words those seen twice, at most 20,000."""
    counts = Counter(symbol for row in rows for symbol in row)
    least = 2 if unit == "words" else 1
    return [s for s, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= least][:MOST]


def numbers(rows: Sequence[Sequence[str]], known: Sequence[str], length: int) -> np.ndarray:
    """Return rows (n, length) of whole numbers: 0 after the end, 1 for what is not known, k + 2 for symbol k."""
    index = {symbol: i + 2 for i, symbol in enumerate(known)}
    out = np.zeros((len(rows), length), np.uint8 if len(known) + 2 <= 256 else np.uint16)
    for row, symbols in zip(out, rows, strict=True):
        cut = symbols[:length]
        row[: len(cut)] = [index.get(symbol, 1) for symbol in cut]
    return out


def to_strings(x: Any, reading: Mapping[str, Any]) -> list[str]:
    """Return the texts of rows of numbers, up to their end; `reading`: of a run's record of its data."""
    table = ["", UNSEEN, *reading["vocabulary"]]
    out = []
    for row in np.asarray(x).reshape(len(x), -1).round().astype(int):
        ended = np.flatnonzero(row == 0)
        out.append("".join(table[i] for i in row[: ended[0] if len(ended) else None]))
    return out


def from_strings(texts: Sequence[str], reading: Mapping[str, Any]) -> np.ndarray:
    """Return texts as rows of numbers by the vocabulary of a run; longer ones are cut. DataError for an empty one."""
    for i, text in enumerate(texts):
        if not text:
            raise DataError(f"text {i} is empty: give at least one symbol")
    unit = reading["unit"]
    made = (text.encode().decode("latin-1") if unit == "bytes" else text for text in texts)
    return numbers([pieces(text, unit) for text in made], reading["vocabulary"], int(reading["length"]))


def dataset_of(text: str, how: How, name: str, source: str, sha256: dict[str, str], split: str = "auto") -> Dataset:
    """Return a text as a set: examples in order, blocks as splits, the vocabulary that of the training split.

    Raises DataError, one line, for a text of one symbol or of too few examples.
    """
    rows, how = examples_of(text, how, name)
    if len({symbol for row in rows for symbol in row}) < 2:
        raise DataError(f"{name}: one symbol only, {shown(rows[0][0])!r}: there is nothing to learn")
    try:
        index, words = divide(len(rows), None, "random" if split == "random" else "blocks")
    except DataError as error:
        raise DataError(f"{name}: {error}; give a longer text, or a smaller length: file:...#LENGTH") from None
    known = vocabulary((rows[i] for i in index["train"]), how.unit)
    x = numbers(rows, known, how.length)
    splits = {key: Split(x[take]) for key, take in index.items()}
    held = np.concatenate([splits["validation"].x, splits["test"].x])
    unseen = float((held == 1).sum() / max(1, (held > 0).sum()))
    remarks = (
        f"examples of {how.length} {how.unit} ({how.cut}), {waste_of(rows, how.length):.1%} of the places are padding",
        f"{len(known)} symbols and the unknown one, {unseen:.2%} of what training does not see",
    )
    reading = {"text": True, **how._asdict(), "vocabulary": known}
    return Dataset(
        name, source, splits, (how.length,), (0, len(known) + 1), None, sha256, notes=words, reading=reading,
        remarks=remarks,
    )  # fmt: skip


def load_text(path: Path, words: str, options: Options, name: str) -> Dataset:
    """Return the set in a text file; `words` as in `how_of`. Raises DataError, one line."""
    where, content = shown(path, 200), read_bytes(path)
    how = how_of(words, where)
    if options.scale not in ("auto", "none"):
        raise DataError(f"{where}: the symbols of a text have no scale; leave --scale away")
    if options.split == "given":
        raise DataError(f"{where}: --split given needs splits in the file; a text has blocks, or --split random")
    sha256 = {shown(path.name, 200): digest(content)}
    return dataset_of(text_of(content, how.unit, where), how, name, shown(path.resolve(), 400), sha256, options.split)


def _lost(rows: Sequence[Sequence[str]], x: np.ndarray, unit: str) -> tuple[str, ...]:
    """Return in words what rows of symbols lose as numbers (n, length): unknown symbols, ends that are cut off."""
    unseen, cut_off = int((x == 1).sum()), sum(len(row) > x.shape[1] for row in rows)
    said = [f"{unseen:,} of {int((x > 0).sum()):,} {unit} not there in training: read as unknown"] if unseen else []
    longer = counted(cut_off, "text", "is", "are")
    return (*said, *([f"{longer} longer than {x.shape[1]} {unit}: cut there"] if cut_off else []))


def read_text(path: Path, words: str, record: Mapping[str, Any] | None) -> Reading:
    """Return a text file as numbers: by a run's record one line an example and its vocabulary, else by its own."""
    where, content = shown(path, 200), read_bytes(path)
    sha256 = {shown(path.name, 200): digest(content)}
    known = (record or {}).get("reading", {})
    if known.get("text"):
        unit = known["unit"]
        cut = How(unit, "line" if known["cut"] != "windows" else "windows", int(known["length"]))
        rows, how = examples_of(text_of(content, unit, where), cut, where)
        names = ["".join(row) for row in rows]
        x = numbers(rows, known["vocabulary"], how.length)
        return Reading({"all": Part(x, None, names)}, remarks=_lost(rows, x, unit), sha256=sha256)
    how = how_of(words, where)
    rows, how = examples_of(text_of(content, how.unit, where), how, where)
    vocab = vocabulary(rows, how.unit)
    reading = {"text": True, **how._asdict(), "vocabulary": vocab}
    return Reading({"all": Part(numbers(rows, vocab, how.length))}, how=reading, sha256=sha256, ordered=True)
