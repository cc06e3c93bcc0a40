"""What a verb of `experiments.apply` made, as a file: npz, csv, png, txt or wav."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

NUMBERS = ("encode", "score", "recommend")
"""verbs whose results are no examples"""


class Made(NamedTuple):
    """What a verb made: arrays (n, ...) by name, the first one the main one, and a name for each row."""

    arrays: dict[str, np.ndarray]
    names: list[str]
    columns: list[str] | None = None  # of the main array, where it is (n, d)
    beside: np.ndarray | None = None  # raw originals, for a picture
    source: str = "test set"  # whose they are, for its caption


def check_out(out: Path, verb: str, run: Any) -> None:
    """Raise ConfigError, before any work, for a file that cannot hold the result."""
    from models.config import ConfigError
    from training.pictures.drawing import is_image

    if out.suffix not in (".npz", ".csv", ".png", ".txt", ".wav"):
        raise ConfigError(f"--out must end in .npz, .csv, .png, .txt or .wav, got {out.name}")
    if out.suffix == ".wav" and (verb in (*NUMBERS, "decompress") or not run.facts.rate):
        raise ConfigError(f"{verb} of {run.facts.name} makes no sound: give --out a .npz or .csv")
    if out.suffix == ".txt" and (verb in NUMBERS or run.facts.strings(np.zeros((1, 1))) is None):
        raise ConfigError(f"{verb} of {run.facts.name} makes no texts: give --out a .npz or .csv")
    if out.suffix == ".png" and (verb in NUMBERS or not (is_image(run.shape) or len(run.shape) == 2)):
        raise ConfigError(f"{verb} of {run.facts.name} makes no pictures: give --out a .npz or .csv")
    if not out.parent.is_dir():
        raise ConfigError(f"the folder {out.parent} of --out does not exist")


def write(out: Path, made: Made, run: Any) -> None:
    """Write the result, whole or not at all. Raises RunError."""
    from training.pictures import drawing
    from training.store.files import replacing

    if out.suffix == ".npz":
        with replacing(out) as file:
            arrays: Any = made.arrays | {"names": np.array(made.names), "columns": np.array(made.columns or [])}
            np.savez(file, **arrays)
    elif out.suffix == ".csv":
        with replacing(out) as file:
            file.write("".join(csv_lines(made)).encode())
    elif out.suffix == ".txt":
        made_of = run.facts.strings(next(iter(made.arrays.values())))
        given = [None] * len(made_of) if made.beside is None else run.facts.strings(made.beside)
        with replacing(out) as file:
            file.write("".join(text_lines(made_of, given)).encode())
    elif out.suffix == ".wav":
        print(write_sound(out, made, run))
    else:
        scale = run.facts.drawn
        picture = scale(next(iter(made.arrays.values())))
        if made.beside is not None:
            drawing.reconstructions(out, scale(made.beside[:20]), picture[:20], source=made.source)
        elif "interpolation" in made.arrays:
            title = "From one example to another, through the codes"
            drawing.traversal(out, picture[None], np.linspace(0, 1, len(picture)), [""], title)
        else:
            drawing.samples(out, picture, "decoded draws of the prior")


def write_sound(out: Path, made: Made, run: Any) -> str:
    """Write what was made as one wav, up to 20 examples after each other; return how near it is to the originals."""
    from data.files.kinds import audio, spectrogram, wav
    from training.store.files import replacing

    x = next(iter(made.arrays.values()))[:20]
    if made.beside is not None:  # behind the end of a recording there is nothing to hear
        x = np.where(np.isnan(made.beside[:20]), np.nan, x)
    waves = run.facts.waves(x)
    with replacing(out) as file:
        file.write(wav.encode(waves, run.facts.rate))
    if made.beside is None:
        return f"{len(waves)} examples at {run.facts.rate} Hz"
    true = run.facts.waves(made.beside[:20])
    with replacing(out.with_stem(f"{out.stem}-originals")) as file:
        file.write(wav.encode(true, run.facts.rate))
    found = spectrogram.distances(true, waves, audio.mel_of(run.facts.record["reading"]))
    said = ", ".join(f"{name} {value.mean():.3g}" for name, value in found.items())
    return f"{len(waves)} examples at {run.facts.rate} Hz; beside {out.stem}-originals.wav: {said}"


def text_lines(texts: Sequence[str], beside: Sequence[str | None]) -> list[str]:
    """Return texts for reading, one a line, line ends as signs; what each was made from above it."""
    flat = lambda text: text.rstrip("\n").replace("\n", "\N{RETURN SYMBOL}") + "\n"
    return [flat(t) if b is None else f"{flat(b)}{flat(t)}\n" for t, b in zip(texts, beside, strict=True)]


def csv_lines(made: Made) -> list[str]:
    """Return the lines of a csv file: a name, then one number (or word) per column; of many arrays after each other."""
    import csv
    import io
    import itertools

    flat = {name: np.asarray(a).reshape(len(a), -1) for name, a in made.arrays.items()}
    numbered = lambda name, n: [f"{name}{i + 1}" for i in range(n)]
    header = [c for name, a in flat.items() for c in ([name] if a.shape[1] == 1 else numbered(name, a.shape[1]))]
    if len(flat) == 1:
        ((name, values),) = flat.items()
        header = made.columns or numbered(name, values.shape[1])
    said = lambda v: v if isinstance(v, str) else f"{v:.9g}"
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["name", *header])
    lines = zip(*([[said(v) for v in row] for row in a.tolist()] for a in flat.values()), strict=True)
    rows.writerows([name, *itertools.chain(*parts)] for name, parts in zip(made.names, lines, strict=True))
    return [text.getvalue()]
