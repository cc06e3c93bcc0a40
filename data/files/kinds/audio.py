"""Speech and other sound as examples of one length: waves (samples, 1) or log-mel spectrograms (frames, bands).

    file:PLACE#FORM/RATE/LENGTH   FORM logmel (default) or wave; 8000hz; 0.5s; 40bands; silence; any of them left out

PLACE: a folder, zip or tar of wav files, or one, which is cut into pieces. Longer recordings are cut. What lies behind
the end of shorter ones is missing (nan: in no likelihood, marked to the encoder), with `silence` it is silence that a
model learns like the rest, so that its draws end. Labels are class folders, or the first of several words in names,
LABEL_SPEAKER_TAKE.wav; with three speakers or more each is in one split only.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.dataset import Dataset, digest
from data.errors import DataError, counted, nearest, shown
from data.files.formats import read_bytes
from data.files.kinds import spectrogram
from data.files.kinds.spectrogram import Mel
from data.files.kinds.wav import Recordings, recordings
from data.files.reading import Part, Reading
from data.options import Options
from data.splits import cut, divide
from data.stored import facts_of

FORMS, SILENCE, BANDS, COVER, PIECE = ("logmel", "wave"), "silence", 40, 0.95, 1.0
_FIELD = re.compile(r"(\d+(?:\.\d+)?)(hz|khz|s|ms|bands)")


class Hearing(NamedTuple):
    """How sound becomes examples: form, samples a second and seconds of an example (0: chosen), bands.

    silence: whether what lies behind the end of a recording is a part of it.
    """

    form: str = "logmel"
    rate: int = 0
    seconds: float = 0.0
    bands: int = BANDS
    silence: bool = False


def hearing_of(words: str, where: str) -> Hearing:
    """Return what "FORM/RATE/LENGTH" says, any of them left out; DataError for what is none of these."""
    how = Hearing()
    for word in filter(None, words.lower().split("/")):
        found = _FIELD.fullmatch(word)
        value, unit = (float(found[1]), found[2]) if found else (0.0, "")
        if word in FORMS:
            how = how._replace(form=word)
        elif word == SILENCE:
            how = how._replace(silence=True)
        elif unit in ("hz", "khz") and 1000 <= value * (1000 if unit == "khz" else 1) <= 384_000:
            how = how._replace(rate=round(value * (1000 if unit == "khz" else 1)))
        elif unit in ("s", "ms") and value > 0:
            how = how._replace(seconds=value / (1000 if unit == "ms" else 1))
        elif unit == "bands" and 2 <= value <= 512 and value == int(value):
            how = how._replace(bands=int(value))
        else:
            raise DataError(
                f"{where}: {shown(word)!r} after # is none of {', '.join(FORMS)}, {SILENCE}, a rate (8000hz), a length "
                f"(0.5s) or 40bands; nearest: {nearest(word, (*FORMS, SILENCE))}"
            )
    return how


def mel_of(reading: Mapping[str, Any]) -> Mel:
    """Return the spectrogram of a run's record of its data."""
    return Mel(int(reading["rate"]), int(reading["bands"]), int(reading["samples"]))


def waves_of(x: Any, reading: Mapping[str, Any]) -> np.ndarray:
    """Return examples (n, ...) in the data's units as waves (n, samples): of spectrograms by Griffin & Lim.

    Missing values are silence.
    """
    x = np.nan_to_num(np.asarray(x, np.float64), nan=0.0 if reading["form"] == "wave" else np.log(spectrogram.FLOOR))
    if reading["form"] == "wave":
        return np.clip(x.reshape(len(x), -1), -1, 1)
    return np.concatenate([spectrogram.waves_of(x[i : i + 32], mel_of(reading)) for i in range(0, len(x), 32)])


def features(waves: np.ndarray, reading: Mapping[str, Any]) -> np.ndarray:
    """Return what a model is given of waves (n, samples): (n, samples, 1), or log-mel (n, frames, bands)."""
    if reading["form"] == "wave":
        return waves[..., None].astype(np.float32)
    made = [spectrogram.logmel(waves[i : i + 256], mel_of(reading)) for i in range(0, len(waves), 256)]
    return np.concatenate(made)


def ended(x: np.ndarray, lengths: np.ndarray, reading: Mapping[str, Any]) -> np.ndarray:
    """Return examples with nan behind the ends of their recordings of so many samples, (n,).

    Of spectrograms: in frames whose window holds no sample of the recording.
    """
    first = np.arange(x.shape[1]) if reading["form"] == "wave" else spectrogram.first_samples(mel_of(reading))
    return np.where((first >= lengths[:, None])[..., None], np.float32(np.nan), x)


def _fitted(found: Recordings, seconds: float, silence: bool) -> tuple[np.ndarray, str, np.ndarray]:
    """Return waves of one length, how many were cut or filled, and how long each was before.

    A recording alone is cut into pieces.
    """
    if len(found.waves) == 1:
        n = min(max(16, round((seconds or PIECE) * found.rate)), len(found.waves[0]))
        pieces = found.waves[0][: len(found.waves[0]) // n * n].reshape(-1, n)
        said = f"{counted(len(pieces), 'piece')} of {n / found.rate:.3g} s of one recording"
        return pieces, said, np.full(len(pieces), n)
    lengths = np.array([len(w) for w in found.waves])
    n = max(16, round(seconds * found.rate) if seconds else int(np.ceil(np.quantile(lengths, COVER) / 64) * 64))
    out = np.zeros((len(lengths), n), np.float32)
    for row, wave in zip(out, found.waves, strict=True):
        row[: min(n, len(wave))] = wave[:n]
    silent = 1 - np.minimum(lengths, n).sum() / out.size
    behind = "is silence behind them" if silence else f"lies behind ends, left out of every loss (#{SILENCE}: kept)"
    return out, f"{n / found.rate:.3g} s each: {(lengths > n).mean():.1%} are cut, {silent:.1%} {behind}", lengths


def named(places: list[tuple[str, ...]]) -> tuple[list[str] | None, list[str] | None]:
    """Return labels and speakers by folders and names, None where they say none.

    Class folders, and speakers as the first word of names; else LABEL_SPEAKER_TAKE, where label and speaker recur.
    """
    stems = [re.split(r"[_\-]", Path(p[-1]).stem) for p in places]
    folders = ["/".join(p[:-1]) for p in places]
    recurs = lambda words: 1 < len(set(words)) <= len(words) // 2
    if recurs(folders):
        first = [s[0] for s in stems]
        return folders, first if recurs(first) and all(len(s) > 1 for s in stems) else None
    if all(len(s) >= 3 for s in stems):
        first, second = [s[0] for s in stems], [s[1] for s in stems]
        return (first if recurs(first) else None), (second if recurs(first) and recurs(second) else None)
    if all(len(s) == 2 for s in stems) and recurs([s[0] for s in stems]):
        return [s[0] for s in stems], None
    return None, None


def by_speaker(speakers: list[str]) -> tuple[dict[str, np.ndarray], str] | None:
    """Return positions by split, every speaker in one only, a tenth of them (one at least) each; None for under 3."""
    who = sorted(set(speakers))
    if len(who) < 3:
        return None
    k, of = max(1, len(who) // 10), np.array(speakers)
    groups = {"train": who[: -2 * k], "validation": who[-2 * k : -k], "test": who[-k:]}
    said = "; ".join(f"{key}: {', '.join(names[:6])}{' ...' * (len(names) > 6)}" for key, names in groups.items())
    return {key: np.flatnonzero(np.isin(of, names)) for key, names in groups.items()}, f"by speaker, {said}"


def load_audio(path: Path, words: str, options: Options, name: str) -> Dataset:
    """Return the set in recordings; `words` as in `hearing_of`. Raises DataError, one line."""
    where = shown(path, 200)
    how = hearing_of(words, where)
    if options.split == "given":
        raise DataError(f"{where}: --split given needs splits; recordings are split by speaker, random or in blocks")
    found = recordings(path, how.rate)
    sha256 = {shown(path.name, 200): digest(read_bytes(path))} if path.is_file() else {}
    return dataset_of(found, how, name, shown(path.resolve(), 400), sha256, options)


def heard(found: Recordings, how: Hearing, name: str) -> tuple[np.ndarray, dict[str, Any], tuple[str, ...]]:
    """Return recordings as examples (n, ...), what a later reading needs, and remarks. Raises DataError for silence."""
    waves, fitted, lengths = _fitted(found, how.seconds, how.silence)
    if not np.abs(waves).max():
        raise DataError(f"{name}: every recording is silent: there is nothing to learn")
    mel = Mel(found.rate, how.bands, waves.shape[1])
    if how.form == "logmel" and waves.shape[1] < mel.window:
        raise DataError(f"{name}: {waves.shape[1]} samples are fewer than a window of {mel.window}; use #wave")
    reading = {"audio": True, "form": how.form, **mel._asdict()}
    shape = f"log-mel of {how.bands} bands" if how.form == "logmel" else "waves"
    x = features(waves, reading)
    if not how.silence and (lengths < waves.shape[1]).any():
        x, reading = ended(x, lengths, reading), reading | {"missing": True}
    return x, reading, (f"{shape} at {found.rate} Hz, {fitted}", *found.remarks)


def dataset_of(
    found: Recordings, how: Hearing, name: str, source: str, sha256: dict[str, str], options: Options
) -> Dataset:
    """Return recordings as a set, labelled and split by their names."""
    x, reading, remarks = heard(found, how, name)
    alone = len(found.waves) == 1
    labels, speakers = (None, None) if alone or options.label == "none" else named(found.places)
    classes = tuple(sorted(set(labels))) if labels else ()
    y = np.array([classes.index(label) for label in labels], np.int32) if labels else None
    split = by_speaker(speakers) if speakers and options.split == "auto" else None
    try:
        ordered = options.split == "blocks" or (alone and options.split == "auto")
        index, rule = split or divide(len(x), y, "blocks" if ordered else "random")
    except DataError as error:
        raise DataError(f"{name}: {error}; give more recordings, or shorter pieces: file:...#0.1s") from None
    splits = {key: cut(x, y, take) for key, take in index.items()}
    return Dataset(
        name, source, splits, x.shape[1:], facts_of([x])[0], len(classes) or None, sha256 or {"examples": digest(x)},
        notes=rule, classes=classes, reading=reading, remarks=remarks,
    )  # fmt: skip


def read_audio(path: Path, words: str, record: Mapping[str, Any] | None) -> Reading:
    """Return recordings as a run's record says, or by `words`; names are those of the files."""
    where, known = shown(path, 200), dict((record or {}).get("reading", {}))
    how = hearing_of(words, where)
    found = recordings(path, int(known["rate"]) if known.get("audio") else how.rate)
    kept = how.silence or (bool(known) and not known.get("missing"))
    seconds = int(known["samples"]) / found.rate if known.get("audio") else how.seconds
    waves, said, lengths = _fitted(found, seconds, kept)
    if known.get("audio") and waves.shape[1] != int(known["samples"]):
        waves = np.pad(waves, ((0, 0), (0, int(known["samples"]) - waves.shape[1])))
    reading = (
        known
        if known.get("audio")
        else {"audio": True, "form": how.form, **Mel(found.rate, how.bands, waves.shape[1])._asdict()}
    )
    names = ["/".join(p) for p in found.places]
    names = names if len(names) == len(waves) else [f"{names[0]}:{i}" for i in range(len(waves))]
    labels, _ = named(found.places)
    y = np.array(labels) if labels and len(labels) == len(waves) else None
    x = features(waves, reading)
    x = x if kept else ended(x, lengths, reading)
    return Reading({"all": Part(x, y, names)}, how=reading, remarks=(said, *found.remarks))
