"""Speech: how much of a spoken digit is left after a code, heard and measured, and what codes know of the digit.

Claim: With 100 labels a linear probe on codes of a log-mel autoencoder is wrong less often than one on mel-frequency
    cepstral coefficients; codes of spectrograms keep more of the spectrum than codes of the samples.
Source: no published number. Griffin & Lim 1984 for phases; Davis & Mermelstein 1980 for the coefficients; van den
    Oord et al. 2017 for codes of speech.
Command: python -m experiments speech --data-dir DATA
Cost: 4 networks, 3 seeds, 25 epochs of 1,500 recordings of 0.6 s; without a folder: `--profile smoke`, generated tones.
Expected: Griffin-Lim of the true spectrum, then of 40 mel bands, are ceilings of every row of spectrograms.
Caveats: Train, validation and test are different speakers (3, 1, 1): a digit is recognised in a voice never heard; all
    intervals are over seeds of one such division. Sample by sample, a wave with made-up phases has no signal-to-noise
    ratio to speak of: the spectral one compares magnitudes.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import data as sets
from data.files.kinds import audio, spectrogram
from data.files.kinds.spectrogram import Mel
from experiments.running import group
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained
from models import ELBO, Conv, Model, posteriors, priors
from models.likelihoods import NormalLikelihood
from models.terms import Commitment
from train import Config
from training.pictures.drawing import figure

LABELS, COEFFICIENTS = 100, 13
TRUE, BANDS, CEPSTRA = "Griffin-Lim, true spectrum", "Griffin-Lim, mel bands", "MFCC"


class SpeechProtocol(NamedTuple):
    """What every row is trained and tested on."""

    dataset: str = "spoken_digit#silence"
    test: int = 100
    """recordings that are heard; digits are told of the whole test split"""
    latent: int = 32
    epochs: int = 25
    turns: int = 60
    """of Griffin-Lim"""
    channels: tuple[int, ...] = (32, 64, 64)


@functools.lru_cache(maxsize=2)
def heard(name: str, folder: str | None) -> Any:
    """Return the data set of the waves themselves."""
    return sets.load(f"{name}/wave", folder)


def waves(protocol: SpeechProtocol, data: Data) -> tuple[np.ndarray, Mel]:
    """Return the test recordings that are heard, (n, samples), and their spectrogram."""
    found = heard(protocol.dataset, data.folder)
    return found.splits["test"].x[: protocol.test, :, 0], audio.mel_of(found.reading)


def sounds(protocol: SpeechProtocol, data: Data, made: np.ndarray) -> dict[str, Any]:
    """Return how near made waves are to the recordings, and a spectrogram for the figure."""
    true, mel = waves(protocol, data)
    numbers = {name: float(np.mean(value)) for name, value in spectrogram.distances(true, made, mel).items()}
    return numbers | {"logmel": spectrogram.logmel(made[:1], mel)[0]}


def wrong(seen: np.ndarray, new: np.ndarray, data: Data, seed: int) -> float:
    """Return the percentage of digits that a linear probe with 100 labels, drawn by the seed, gets wrong."""
    from sklearn.linear_model import LogisticRegression

    y, rng = data.y("train"), np.random.default_rng(seed)
    order = rng.permutation(len(y))
    each = max(1, LABELS // len(np.unique(y)))
    at = np.concatenate([order[y[order] == k][:each] for k in np.unique(y)])
    mean, scale = seen.mean(0), seen.std(0) + 1e-6
    probe = LogisticRegression(max_iter=500).fit((seen[at] - mean) / scale, y[at])
    return 100 * float((probe.predict((new - mean) / scale) != data.y("test")).mean())


def true_spectrum(protocol: SpeechProtocol, seed: int, data: Data) -> Mapping[str, Any]:
    """Return the row of waves from the magnitudes of the recordings themselves."""
    x, mel = waves(protocol, data)
    return sounds(protocol, data, spectrogram.griffin_lim(spectrogram.magnitudes(x, mel), mel, protocol.turns))


def mel_bands(protocol: SpeechProtocol, seed: int, data: Data) -> Mapping[str, Any]:
    """Return the row of waves from the mel bands of the recordings."""
    x, mel = waves(protocol, data)
    return sounds(protocol, data, spectrogram.waves_of(spectrogram.logmel(x, mel), mel, protocol.turns))


def cepstra(protocol: SpeechProtocol, seed: int, data: Data) -> Mapping[str, Any]:
    """Return the row of mel-frequency cepstral coefficients of every frame: a cosine transform of the log-mel bands."""
    from scipy.fft import dct, idct

    raw = lambda split: data.dataset.splits[split].x
    of = lambda x: dct(x, norm="ortho", axis=2)[..., :COEFFICIENTS]
    x, mel = waves(protocol, data)
    kept = of(spectrogram.logmel(x, mel))
    logs = idct(np.pad(kept, ((0, 0), (0, 0), (0, mel.bands - COEFFICIENTS))), norm="ortho", axis=2)
    seen, new = of(raw("train")), of(raw("test"))
    summary = lambda c: np.concatenate([c.mean(1), c.std(1)], axis=1)
    flat = lambda c: c.reshape(len(c), -1)
    return sounds(protocol, data, spectrogram.waves_of(logs, mel, protocol.turns)) | {
        "wrong_percent": wrong(flat(seen), flat(new), data, seed),
        "wrong_summary_percent": wrong(summary(seen), summary(new), data, seed),
        "numbers_kept": flat(new).shape[1],
    }


def autoencoder(form: str, quantised: bool) -> Any:
    """Return the row of an autoencoder of spectrograms or of samples, with codes of a density or of a codebook."""

    def row(protocol: SpeechProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        raw = form == "wave"
        splits, dataset = (
            group.data_of(Config(dataset=f"{protocol.dataset}/wave", batch_size=1), data.folder)
            if raw
            else (data.splits, data.dataset)
        )
        given = Data(splits, dataset, data.folder)
        encoder = Conv(channels=protocol.channels, kernel=9 if raw else 5, stride=4 if raw else 2)
        more: dict[str, Any] = (
            {"posterior": posteriors.VQPosterior(entries=64), "prior": priors.CodesPrior()} if quantised else {}
        )
        config = Config(
            model=Model(encoder=encoder, latent=protocol.latent, likelihood=NormalLikelihood("learned"), **more),
            objective=ELBO(warmup_steps=0 if quantised else 200),
            terms=(Commitment(weight=0.25),) if quantised else (),
            epochs=protocol.epochs,
            batch_size=min(50, len(splits["train"])),
            lr=2e-3,
        )
        model = trained(config, seed, given)
        code = jax.jit(lambda x: model.encode(x).mean)
        both = jax.jit(lambda x: model.decode(model.encode(x).mean).mean)
        of = lambda split, n=None: dataset.scale.apply(dataset.splits[split].x[:n])
        each = lambda f, x: np.concatenate([np.asarray(f(jnp.asarray(x[i : i + 250]))) for i in range(0, len(x), 250)])
        x, mel = waves(protocol, data)
        out = dataset.scale.invert(each(both, of("test", len(x))))
        made = np.clip(out[..., 0], -1, 1) if raw else spectrogram.waves_of(out, mel, protocol.turns)
        found = wrong(each(code, of("train")), each(code, of("test")), given, seed)
        return sounds(protocol, data, made) | {"wrong_percent": found, "numbers_kept": float(protocol.latent)}

    return row


def pictures(path: Path, record: Mapping[str, Any], arrays: Any) -> bool:
    """Draw the log-mel spectrogram of the first test recording as every row plays it."""
    with figure(path, 2.6 * len(arrays), 2.6) as fig:
        axes = fig.subplots(1, len(arrays), squeeze=False, sharey=True)[0]
        top = max(of["logmel"][0].max() for of in arrays.values())
        for place, (name, of) in zip(axes, arrays.items(), strict=True):
            place.imshow(of["logmel"][0].T, origin="lower", aspect="auto", cmap="magma", vmin=top - 12, vmax=top)
            place.set_title(name, fontsize=9)
            place.set_xlabel("frame")
            place.grid(False)
        axes[0].set_ylabel("mel band")
    return True


LOGMEL, LOGMEL_VQ, WAVE, WAVE_VQ = "log-mel VAE", "log-mel VQ", "wave VAE", "wave VQ"
SMALL = {"dataset": "tones#silence", "test": 8, "latent": 8, "epochs": 2, "turns": 8, "channels": (4, 8)}
STUDY = Study(
    rows={
        TRUE: Case(true_spectrum, exact=True),
        BANDS: Case(mel_bands, exact=True),
        CEPSTRA: Case(cepstra),
        LOGMEL: Case(autoencoder("logmel", False)),
        LOGMEL_VQ: Case(autoencoder("logmel", True)),
        WAVE: Case(autoencoder("wave", False)),
        WAVE_VQ: Case(autoencoder("wave", True)),
    },
    protocol=SpeechProtocol(),
    profiles={
        "smoke": Profile(1, SMALL, only=(TRUE, BANDS, CEPSTRA, LOGMEL, WAVE_VQ), differs="tones, 2 epochs"),
        "cpu": Profile(3),
        "long": Profile(5, {"epochs": 200}),
    },
    metric="log_spectral_distance_db",
    columns=("spectral_snr_db", "snr_db", "wrong_percent", "numbers_kept"),
    claims=(
        Claim(
            "digits wrong with 100 labels, codes of the log-mel VAE less MFCC, percentage points",
            lambda rows: rows[LOGMEL]["wrong_percent"] - rows[CEPSTRA]["wrong_percent"],
            high=0,
        ),
        Claim(
            "digits wrong with 100 labels, codes of the log-mel VQ less MFCC, percentage points",
            lambda rows: rows[LOGMEL_VQ]["wrong_percent"] - rows[CEPSTRA]["wrong_percent"],
            high=0,
        ),
        Claim(
            "log-spectral distance, codes of spectrograms over codes of samples",
            lambda rows: rows[LOGMEL]["log_spectral_distance_db"] / rows[WAVE]["log_spectral_distance_db"],
            high=1,
        ),
    ),
    figures=("intervals", pictures),
)
