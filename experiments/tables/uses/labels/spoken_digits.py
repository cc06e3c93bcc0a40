"""Speech with few labels: codes of short windows, pooled over the recording as cepstral coefficients are.

Claim: With 100 labels a linear probe on codes of an autoencoder of windows is wrong less often than one on
    mel-frequency cepstral coefficients with their differences, pooled alike.
Source: no published number of this protocol. Davis & Mermelstein 1980, Furui 1986 (coefficients and differences);
    Vincent et al. 2010 (denoising); Coates et al. 2011 (codes of patches, pooled, and random ones beside them).
Command: python -m experiments spoken_digits --data-dir DATA
Cost: 2 networks, 3 seeds (each other labels and weights), 20,000 windows of 9 frames, 5 epochs.
Expected: an ordering, no number.
Caveats: One reader for all rows, logistic regression (C = 10) on features scaled to at most 1: means and deviations
    over each part of a recording. Quarters, noise and width were chosen with the validation speaker and one of training
    held out in turn, never by the test speaker, who is one alone; the coefficients' mean and parts are those that do
    best on test. A window is 9 frames of 13 coefficients, each recording's mean taken off: the network begins where the
    baseline does. Codes of whole spectrograms are in `few_labels`. Without a folder: generated tones.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained_on
from experiments.tables.uses.labels import recognition as told
from experiments.tables.uses.labels.features import LABELS, amounts
from experiments.tables.uses.labels.few_labels import (
    FewLabelsProtocol,
    Frames,
    coefficients,
    curves,
    pooled,
    recordings,
    with_differences,
)
from models import ELBO, Denoising, Dense, Model, Objective, posteriors
from models.likelihoods import NormalLikelihood
from train import Config
from training.examples import Examples


class SpokenDigitsProtocol(NamedTuple):
    """What every row is trained and tested on."""

    speech: str = "spoken_digit#silence"
    parts: int = 4
    """of a recording, each pooled alone"""
    around: int = 4
    """frames before and behind a window's own"""
    windows: int = 20_000
    latent: int = 256
    hidden: int = 256
    epochs: int = 5
    noise: float = 1.0
    """deviation of what is added to a window, in deviations of each coefficient"""


def windowed(some: Frames, around: int) -> Frames:
    """Return each frame with those around it, ends repeated: of each recording (frames, (2 around + 1) numbers)."""
    view = np.lib.stride_tricks.sliding_window_view
    cut = lambda f: view(np.pad(f, ((around, around), (0, 0)), mode="edge"), 2 * around + 1, axis=0)
    return [cut(f).swapaxes(1, 2).reshape(len(f), -1) for f in some]


Learned = Callable[[SpokenDigitsProtocol, Frames, int], Callable[[np.ndarray], np.ndarray]]
"""(protocol, training's windows, seed) -> windows (n, values) -> codes (n, numbers)"""


def codes(posterior: Any, objective: Callable[[float], Objective], width: int = 0) -> Learned:
    """Return the codes of an autoencoder of windows; width: of the code, 0 for the protocol's."""

    def learned(protocol: SpokenDigitsProtocol, seen: Frames, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        every = np.concatenate(seen)
        mean, deviation = every.mean(0), every.std(0) + 1e-6
        some = np.random.default_rng(seed).permutation(len(every))[: protocol.windows]
        model = Model(
            encoder=Dense((protocol.hidden,)),
            latent=min(width or protocol.latent, protocol.latent),
            posterior=posterior,
            likelihood=NormalLikelihood("learned"),
        )
        loss, size = objective(protocol.noise), min(256, len(some))
        config = Config(model=model, objective=loss, epochs=protocol.epochs, batch_size=size, lr=2e-3)
        made = trained_on(config, seed, Examples(jnp.asarray((every[some] - mean) / deviation, jnp.float32)))
        code = jax.jit(lambda x: made.encode(x).mean)
        return lambda x: np.asarray(code(jnp.asarray((x - mean) / deviation, jnp.float32)))

    return learned


def random_codes(protocol: SpokenDigitsProtocol, seen: Frames, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return as many random directions, cut off below 0, of windows of unit deviation: no training at all."""
    every = np.concatenate(seen)
    mean, deviation = every.mean(0), every.std(0) + 1e-6
    weights = np.random.default_rng(seed).normal(size=(len(mean), protocol.latent)) / np.sqrt(len(mean))
    return lambda x: np.maximum((x - mean) / deviation @ weights, 0)


def components(protocol: SpokenDigitsProtocol, seen: Frames, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the principal components of windows: half of their number, as many as there are."""
    from sklearn.decomposition import PCA

    every = np.concatenate(seen)
    return PCA(min(every.shape[1] // 2, protocol.latent), random_state=seed).fit(every).transform


def row(off: bool, learned: Learned | None, bound: str | None = None, parts: int = 0) -> Case:
    """Return the case of a linear probe, by the number of labels; learned None: coefficients and two differences.

    off: each recording's mean taken off. parts: of a recording; 0: the protocol's.
    """

    def of(protocol: SpokenDigitsProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        splits, dataset = recordings(FewLabelsProtocol(speech=protocol.speech), data)
        held = Data(splits, dataset)
        frames = {k: coefficients(dataset.splits[k].x, off) for k in ("train", "validation", "test")}
        if learned is None:
            known = {k: [with_differences(f) for f in some] for k, some in frames.items()}
        else:
            cut = {k: windowed(some, protocol.around) for k, some in frames.items()}
            code = learned(protocol, cut["train"], seed)
            known = {k: apart(code, some) for k, some in cut.items()}
        x = {k: pooled(some, parts or protocol.parts) for k, some in known.items()}
        order = np.random.default_rng(seed).permutation(len(x["train"]))
        seen, y, truth = x["train"][order], held.y("train")[order], held.y("test")
        out = {"commonest_wrong_percent": 100 * float(np.mean(truth != np.bincount(y).argmax()))}
        for name, at in amounts(y).items():
            reader = told.logistic().fit(seen[at], y[at])
            out[name] = 100 * float(np.mean(reader.predict(x["test"]) != truth))
            out[f"validation_{name}"] = 100 * float(np.mean(reader.predict(x["validation"]) != held.y("validation")))
        return out | {"numbers": float(seen.shape[1])}

    return Case(of, bound=bound)


def apart(code: Callable[[np.ndarray], np.ndarray], some: Frames) -> Frames:
    """Return the codes of each recording's windows, worked out together in pieces."""
    every = np.concatenate(some)
    made = np.concatenate([code(every[i : i + 4096]) for i in range(0, len(every), 4096)])
    return np.split(made, np.cumsum([len(f) for f in some])[:-1])


def sources(data: Data) -> dict[str, Any]:
    """Return the digest of the recordings."""
    dataset = recordings(FewLabelsProtocol(), data)[1]
    return {dataset.name: dataset.record()}


DENOISED, VAE, PCA_, RANDOM = (
    "speech: denoising codes of windows",
    "speech: VAE codes of windows",
    "speech: PCA of windows",
    "speech: random directions of windows",
)
MFCC, MFCC_OFF, THIRDS, THIRDS_OFF = (
    "speech: MFCC and differences",
    "speech: MFCC and differences, mean off",
    "speech: MFCC and differences, thirds",
    "speech: MFCC and differences, mean off, thirds",
)
BASE = (MFCC, MFCC_OFF, THIRDS, THIRDS_OFF)
BEST = lambda rows: min((rows[n]["wrong_100_percent"] for n in BASE if n in rows), key=np.mean)
POINT = posteriors.PointPosterior("relu")
STUDY = Study(
    rows={
        DENOISED: row(True, codes(POINT, lambda noise: Denoising("gaussian", noise)), MFCC_OFF),
        VAE: row(True, codes(posteriors.NormalPosterior(), lambda noise: ELBO(), 64), MFCC_OFF),
        PCA_: row(True, components, MFCC_OFF),
        RANDOM: row(True, random_codes, MFCC_OFF),
        MFCC_OFF: row(True, None),
        MFCC: row(False, None),
        THIRDS_OFF: row(True, None, parts=3),
        THIRDS: row(False, None, parts=3),
    },
    protocol=SpokenDigitsProtocol(),
    metric="wrong_100_percent",
    sources=sources,
    columns=(
        "validation_wrong_100_percent",
        *(f"wrong_{n}_percent" for n in LABELS if n != 100),
        "wrong_all_percent",
        "commonest_wrong_percent",
        "numbers",
    ),
    claims=(
        Claim(
            "100 labels: wrong by the better MFCC minus by denoising codes, points",
            lambda rows: BEST(rows) - rows[DENOISED]["wrong_100_percent"],
            low=0.0,
        ),
        Claim(
            "100 labels: wrong by random directions minus by denoising codes, points",
            lambda rows: rows[RANDOM]["wrong_100_percent"] - rows[DENOISED]["wrong_100_percent"],
            low=0.0,
        ),
    ),
    figures=(curves,),
    profiles={
        "smoke": Profile(
            1,
            {"windows": 512, "latent": 8, "hidden": 8, "epochs": 1},
            (DENOISED, RANDOM, MFCC_OFF),
            "small networks, 1 epoch, tones",
        ),
        "cpu": Profile(3),
    },
)
