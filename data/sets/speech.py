"""Sound by name: Free Spoken Digits, and generated tones; each as `NAME#wave` too, see `data.files.kinds.audio`."""

from pathlib import Path

import numpy as np

from data.dataset import Dataset, digest
from data.errors import DataError
from data.files.kinds import audio
from data.files.kinds.wav import Recordings, recordings
from data.options import Options

SOUNDS = ("spoken_digit", "tones")
_RATE = 8000


def load_sound(name: str, data_dir: Path | None) -> Dataset:
    """Return a set of sound by "NAME#FORM/RATE/LENGTH". Raises DataError for spoken digits without their archive."""
    plain, _, words = name.partition("#")
    how = audio.hearing_of(words, plain)
    if plain == "tones":
        made = tones()
        sha256 = {"waves": digest(np.concatenate(made.waves))}
        return audio.dataset_of(made, how, name, "generated", sha256, Options())
    found = sorted((data_dir / plain).glob("free-spoken-digit-dataset*.tar.gz")) if data_dir else []
    if not found:
        raise DataError(
            f"{plain}: give --data-dir DIR with DIR/{plain}/free-spoken-digit-dataset-1.0.9.tar.gz (Jakobovski, 2,500 "
            "recordings), or take tones, which needs no file"
        )
    sha256 = {found[-1].name: digest(found[-1].read_bytes())}
    return audio.dataset_of(recordings(found[-1], how.rate), how, name, str(found[-1]), sha256, Options())


def tones(labels: int = 5, speakers: int = 5, takes: int = 8) -> Recordings:
    """Return chirps: the label says where a tone begins and how it glides, the speaker its pitch and overtones."""
    rng, waves, places = np.random.default_rng(0), list[np.ndarray](), list[tuple[str, ...]]()
    for label in range(labels):
        for s in range(speakers):
            for take in range(takes):
                t = np.arange(int(_RATE * rng.uniform(0.1, 0.14))) / _RATE
                low, glide = (300 + 40 * s) * rng.uniform(0.97, 1.03), (label - labels // 2) * 1200.0
                phase = 2 * np.pi * ((low + 150 * label) * t + glide * t**2 / 2)
                wave = sum(np.sin(k * phase) / k ** (1 + s / 4) for k in (1, 2, 3))
                noise = 0.002 * rng.normal(size=len(t))
                waves.append((0.4 * np.sin(np.pi * t / t[-1]) * wave + noise).astype(np.float32))
                places.append((f"{label}_speaker{s}_{take}.wav",))
    return Recordings(waves, places, _RATE, ())
