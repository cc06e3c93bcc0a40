"""Audio and text features of a TFDS set, brought to the forms of `file:`: spectrograms or waves, symbols of a text.

tfds:NAME#FEATURE/WORDS   WORDS as those of sound or of a text after #; FEATURE may be left out where it is supervised
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data.dataset import Dataset, Split, array_digests
from data.errors import DataError
from data.files.formats import memory
from data.files.kinds import audio, text
from data.files.kinds.wav import Recordings
from data.files.reading import Part
from data.splits import three_way
from data.stored import facts_of
from data.tfds import prepared
from data.tfds.registry import import_tfds

RATE = 16_000  # of audio features that say none: TFDS's own default


def feature_of(builder: Any, wanted: str) -> tuple[str, str, str] | None:
    """Return (feature, "audio" or "text", words) of "FEATURE/WORDS"; None where what is meant is neither."""
    tfds = import_tfds()
    kinds = {"audio": tfds.features.Audio, "text": tfds.features.Text}
    features = builder.info.features
    known = dict(features.items()) if hasattr(features, "items") else {}
    key, _, words = wanted.partition("/")
    supervised = [k for k in (builder.info.supervised_keys or ()) if isinstance(k, str)]
    if key not in known:
        key, words = next(iter(supervised), "") or (next(iter(known)) if len(known) == 1 else ""), wanted
        if words and all(word not in (*audio.FORMS, *text.UNITS, *text.CUTS) for word in words.split("/")[:1]):
            return None  # an unknown feature: told with the names of all
    kind = next((name for name, cls in kinds.items() if isinstance(known.get(key), cls)), "")
    return (key, kind, words) if kind else None


def load_signals(builder: Any, found: tuple[str, str, str], name: str, source: str) -> Dataset:
    """Return the set of an audio or text feature; its published splits, what is missing cut from train.

    Raises DataError, one line.
    """
    key, kind, words = found
    where = f"tfds:{name}"
    labels = [k for k, f in builder.info.features.items() if isinstance(f, import_tfds().features.ClassLabel)]
    supervised = [k for k in (builder.info.supervised_keys or ())[1:] if k in labels]
    y = next(iter([*supervised, *(k for k in labels if k == "label")]), None)
    stored = {part: prepared.records(builder, part) for part in prepared.parts(builder)}
    sizes = {part: len(s) for part, s in stored.items()}
    if {"train", "validation", "test"} <= set(sizes):
        cuts, rule = (
            {k: (k, 0, sizes[k]) for k in ("train", "validation", "test")},
            "train, validation and test as published",
        )
    else:
        cuts, rule = three_way(sizes, where)
    parts = {key_: _read(stored[part], key, y, a, b, where) for key_, (part, a, b) in cuts.items()}
    classes = int(builder.info.features[y].num_classes) if y else None
    notes = f"{rule}; x is feature {key!r}" + (f", y is {y!r}" if y else "")
    made = _sound if kind == "audio" else _text
    return made(builder.info.features[key], parts, words, where, source, classes, notes)


def _read(source: Sequence[Any], x: str, y: str | None, start: int, stop: int, where: str) -> Part:
    """Return a split's values as objects, one an example, and its labels."""
    values, labels, held = [], [], 0
    for i in range(start, stop):
        try:
            example = source[i]
        except Exception as error:  # record decoders raise many kinds
            raise DataError(f"{where}: example {i} cannot be decoded ({' '.join(str(error).split())[:200]})") from None
        values.append(example[x])
        held += getattr(example[x], "nbytes", len(example[x]))
        if held > memory() // 4:
            raise DataError(f"{where}: its values do not fit memory")
        labels.append(0 if y is None else int(example[y]))
    out = np.empty(len(values), object)
    out[:] = values
    return Part(out, None if y is None else np.array(labels, np.int32))


def _sound(
    feature: Any, parts: dict[str, Part], words: str, where: str, source: str, classes: int | None, notes: str
) -> Dataset:
    how = audio.hearing_of(words, where)
    rate = int(getattr(feature, "sample_rate", None) or RATE)
    waves = [_wave(v, f"{where}, {part} {i}") for part, of in parts.items() for i, v in enumerate(of.x)]
    x, reading, remarks = audio.heard(Recordings(waves, [], rate, ()), how, where)
    splits, at = {}, 0
    for part, of in parts.items():
        splits[part], at = Split(np.ascontiguousarray(x[at : at + len(of.x)]), of.y), at + len(of.x)
    return Dataset(
        where, source, splits, x.shape[1:], facts_of([x])[0], classes, array_digests(splits), notes=notes,
        reading=reading, remarks=remarks,
    )  # fmt: skip


def _wave(value: Any, where: str) -> np.ndarray:
    """Return a decoded audio feature, (samples,) or (samples, channels), as samples within -1..1."""
    x = np.asarray(value)
    if not x.size:
        raise DataError(f"{where}: no samples in it")
    wave = x.astype(np.float64) / (32768 if x.dtype.kind in "iu" else 1)
    return (wave.mean(1) if wave.ndim == 2 else wave).astype(np.float32)


def _text(
    feature: Any, parts: dict[str, Part], words: str, where: str, source: str, classes: int | None, notes: str
) -> Dataset:
    how = text.how_of(words, where)
    strings = {key: [_string(v, how.unit, where) for v in of.x] for key, of in parts.items()}
    y = {key: of.y for key, of in parts.items()}
    if how.cut in ("lines", "windows") or len(strings["train"]) < 10:  # a text in few pieces: cut anew, without labels
        rows, classes, y = {}, None, dict.fromkeys(parts)
        for key, pieces in strings.items():
            rows[key], how = text.examples_of("\n".join(pieces), how, where)
    else:
        rows = {key: [text.pieces(s, how.unit) for s in of] for key, of in strings.items()}
        longest = max(max(map(len, of)) for of in rows.values())
        how = how._replace(cut="line", length=how.length or min(longest, text.LONGEST))
    known = text.vocabulary(rows["train"], how.unit)
    splits = {key: Split(text.numbers(of, known, how.length), y[key]) for key, of in rows.items()}
    reading = {"text": True, **how._asdict(), "vocabulary": known}
    remarks = (f"examples of {how.length} {how.unit}", f"{len(known)} symbols and the unknown one")
    return Dataset(
        where, source, splits, (how.length,), (0, len(known) + 1), classes, array_digests(splits), notes=notes,
        reading=reading, remarks=remarks,
    )  # fmt: skip


def _string(value: Any, unit: str, where: str) -> str:
    content = value if isinstance(value, bytes) else str(value).encode()
    return text.text_of(content, unit, where)
