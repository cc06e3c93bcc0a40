"""Features of text and speech for few labels: which file a piece is from, which digit is said.

Claim: With 100 labels a linear probe on what a network has learned without labels is wrong less often than one on
    counts of characters (text) and on mel-frequency cepstral coefficients (speech). Images are in `features`.
Source: no published number of this protocol. Bowman et al. 2016 (codes of text), Radford et al. 2017 (states of a
    character model as features), Davis & Mermelstein 1980 (cepstral coefficients).
Command: python -m experiments few_labels --data-dir DATA
Cost: two networks of text (3,000 pieces, 3 epochs), two of speech (25 epochs of 1,500 recordings), 3 seeds.
Expected: an ordering, no number.
Caveats: One reader for all rows, logistic regression (C = 10) on features scaled to at most 1. Texts are those of
    `recognition`; test digits are of a speaker whom training has not heard. `mean off`: each recording's mean spectrum
    is taken off first, for codes and coefficients alike. Coefficients are those of `spoken_digits`: 13 of every frame
    and two differences, means and deviations over quarters of a recording. Without a folder: generated tones.
"""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from data.dataset import digest
from data.files.kinds.spectrogram import FLOOR
from experiments.reporting.plots import headline
from experiments.running import group
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained_on
from experiments.tables.uses.labels import recognition as told
from experiments.tables.uses.labels.features import LABELS, amounts
from experiments.tables.uses.speech import COEFFICIENTS
from models import ELBO, Conv, Denoising, Dense, Model, Objective, Transformer, posteriors
from models.likelihoods import NormalLikelihood, TokensLikelihood
from train import Config
from training.examples import Examples
from training.pictures.drawing import figure

Frames = list[np.ndarray]
"""of each recording (frames, numbers)"""
PARTS = 4  # of a recording, each pooled alone


class FewLabelsProtocol(NamedTuple):
    """What every row is trained and tested on."""

    texts: int = 3_000
    width: int = 64
    latent: int = 32
    text_epochs: int = 3
    speech: str = "spoken_digit#silence"
    channels: tuple[int, ...] = (32, 64, 64)
    epochs: int = 25


def texts(protocol: FewLabelsProtocol, seed: int, data: Data) -> told.Told:
    """Return pieces of eight files."""
    return told.texts(as_recognition(protocol), None, seed)


def as_recognition(protocol: FewLabelsProtocol) -> told.RecognitionProtocol:
    """Return the protocol of `recognition` with these sizes."""
    same = {name: getattr(protocol, name) for name in ("texts", "width", "latent", "text_epochs")}
    return told.RecognitionProtocol(**same)


def recordings(protocol: FewLabelsProtocol, data: Data) -> Any:
    """Return the splits and the data set of a folder's speech, of tones without one."""
    config = Config(dataset=protocol.speech if data.folder else "tones#silence", batch_size=1)
    return group.data_of(config, data.folder)


def sources(data: Data) -> dict[str, Any]:
    """Return the digests of what is read: seed 0's pieces of text, the files of speech."""
    protocol = FewLabelsProtocol()
    dataset = recordings(protocol, data)[1]
    return {"texts": {"sha256": {"x": digest(texts(protocol, 0, data).seen)}}, dataset.name: dataset.record()}


def speech(protocol: FewLabelsProtocol, seed: int, data: Data) -> told.Told:
    """Return log-mel spectrograms (n, frames, bands), training's in an order drawn by the seed."""
    splits, dataset = recordings(protocol, data)
    held = Data(splits, dataset)
    order = np.random.default_rng(seed).permutation(len(splits["train"]))
    shaped = lambda split: held.x(split).reshape(-1, *dataset.shape)
    return told.Told(shaped("train")[order], held.y("train")[order], shaped("test"), held.y("test"))


def raw_speech(protocol: FewLabelsProtocol, seed: int, data: Data) -> told.Told:
    """Return the recordings of `speech` in the same order, as natural logarithms of power, not scaled."""
    x, known = recordings(protocol, data)[1].splits, speech(protocol, seed, data)
    order = np.random.default_rng(seed).permutation(len(x["train"]))
    return known._replace(seen=np.asarray(x["train"].x)[order], new=np.asarray(x["test"].x))


def mean_off(x: np.ndarray) -> np.ndarray:
    """Return spectrograms less their mean over the frames: what a voice and a room add to all of them."""
    return x - x.mean(1, keepdims=True)


Learned = Callable[[FewLabelsProtocol, told.Told, int], tuple[Any, Any]]
"""(protocol, known, seed) -> features of the seen and of the new examples"""


def counted(most: int) -> Learned:
    """Return the counts of runs of characters."""
    return lambda protocol, known, seed: told.counts(most)(as_recognition(protocol), known, seed)


def text_codes(protocol: FewLabelsProtocol, known: told.Told, seed: int) -> tuple[Any, Any]:
    """Return the mean codes of the VAE of `recognition`."""
    return told.text_codes(as_recognition(protocol), known, seed)


@jax.jit
def states(writer: Any, ids: Any) -> Any:
    """Return the mean over the steps of a transformer's stream behind each of its layers, (n, layers * width)."""
    before = writer.entry.look_up(writer.before(ids, None))
    code = jnp.zeros((len(ids), 1))
    behind = [writer.stream(code, before, layers).mean(1) for layers in range(1, len(writer.layers) + 1)]
    return jnp.concatenate(behind, axis=1)


def language_states(protocol: FewLabelsProtocol, known: told.Told, seed: int) -> tuple[Any, Any]:
    """Return the mean states of a language model: the decoder of an autoencoder whose code is too dear to be used."""
    model = Model(Dense(()), Transformer(width=protocol.width), 1, likelihood=TokensLikelihood(told.SYMBOLS))
    config = Config(model=model, objective=ELBO(beta=10.0), epochs=protocol.text_epochs, batch_size=32, lr=3e-3)
    writer = trained_on(config, seed, Examples(jnp.asarray(known.seen), (0.0, 1.0))).decoder
    part = lambda x: np.concatenate([np.asarray(states(writer, x[i : i + 250])) for i in range(0, len(x), 250)])
    return part(known.seen), part(known.new)


def coefficients(x: Float[np.ndarray, "n frames bands"], off: bool) -> Frames:
    """Return the coefficients of log-mel frames (natural logarithms, not scaled), less the silence put behind them."""
    from scipy.fft import dct

    all_ = dct(mean_off(x) if off else x, norm="ortho", axis=2)[..., :COEFFICIENTS]
    loud = x.max(2) > np.log(FLOOR) + 1e-3
    last = np.where(loud.any(1), x.shape[1] - loud[:, ::-1].argmax(1), x.shape[1])
    return [frames[:n] for frames, n in zip(all_, last, strict=True)]


def differences(frames: np.ndarray) -> np.ndarray:
    """Return the slope over five frames, Σ k (c[t + k] - c[t - k]) / 2 Σ k², k = 1, 2, ends repeated (Furui 1986)."""
    p, n = np.pad(frames, ((2, 2), (0, 0)), mode="edge"), len(frames)
    return sum(k * (p[2 + k : 2 + k + n] - p[2 - k : 2 - k + n]) for k in (1, 2)) / 10


def with_differences(frames: np.ndarray) -> np.ndarray:
    """Return coefficients, their slopes and the slopes of these side by side."""
    return np.concatenate([frames, (slopes := differences(frames)), differences(slopes)], 1)


def pooled(some: Frames, parts: int) -> np.ndarray:
    """Return the mean and the deviation over each part of every recording, (n, 2 parts numbers)."""
    out = []
    for frames in some:
        ends = np.round(np.linspace(0, max(len(frames), parts), parts + 1)).astype(int)
        pieces = [frames[min(a, len(frames) - 1) : b] for a, b in itertools.pairwise(ends)]
        out.append(np.concatenate([np.concatenate([p.mean(0), p.std(0)]) for p in pieces]))
    return np.stack(out)


def cepstra(off: bool) -> Learned:
    """Return the coefficients with two differences, pooled over quarters; each recording's mean spectrum on or off."""

    def features(protocol: FewLabelsProtocol, known: told.Told, seed: int) -> tuple[Any, Any]:
        of = lambda x: pooled([with_differences(frames) for frames in coefficients(x, off)], PARTS)
        return of(known.seen), of(known.new)

    return features


def components(protocol: FewLabelsProtocol, known: told.Told, seed: int) -> tuple[Any, Any]:
    """Return as many principal components of spectrograms without mean as codes have units."""
    from sklearn.decomposition import PCA

    seen, new = (mean_off(x).reshape(len(x), -1) for x in (known.seen, known.new))
    pca = PCA(protocol.latent, random_state=seed).fit(seen)
    return pca.transform(seen), pca.transform(new)


def speech_codes(posterior: Any, objective: Objective, off: bool) -> Learned:
    """Return the codes of a convolutional autoencoder of spectrograms."""

    def features(protocol: FewLabelsProtocol, known: told.Told, seed: int) -> tuple[Any, Any]:
        seen, new = (mean_off(x) if off else x for x in (known.seen, known.new))
        config = Config(
            model=Model(
                encoder=Conv(channels=protocol.channels, kernel=5, stride=2),
                posterior=posterior,
                latent=protocol.latent,
                likelihood=NormalLikelihood("learned"),
            ),
            objective=objective,
            epochs=protocol.epochs,
            batch_size=min(50, len(seen)),
            lr=2e-3,
        )
        return told.coded(config, known._replace(seen=seen, new=new), seed)

    return features


def row(source: Callable[..., told.Told], features: Learned, bound: str | None = None) -> Case:
    """Return the case of a linear probe on features, by the number of labels."""

    def of(protocol: FewLabelsProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        known = source(protocol, seed, data)
        seen, new = features(protocol, known, seed)
        out = {"commonest_wrong_percent": 100 * np.mean(known.truth != np.bincount(known.y).argmax())}
        for name, at in amounts(known.y).items():
            wrong = told.logistic().fit(seen[at], known.y[at]).predict(new) != known.truth
            out[name] = 100 * float(wrong.mean())
        return out

    return Case(of, bound=bound)


def curves(path: Path, record: Mapping[str, Any], arrays: Any) -> bool:
    """Draw the share of wrong answers against the number of labels: text left, speech right, where there are both."""
    kinds = [kind for kind in ("text", "speech") if any(name.startswith(kind) for name in record["rows"])]
    with figure(path, 9.6 if len(kinds) > 1 else 7.0, 4.4) as fig:
        for axes, kind in zip(fig.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
            for i, (name, facts) in enumerate((n, f) for n, f in record["rows"].items() if n.startswith(kind)):
                found = [(n, facts["metrics"].get(f"wrong_{n}_percent")) for n in LABELS]
                lines = [(n * (1 + 0.02 * i), values) for n, values in found if values]
                axes.plot([n for n, _ in lines], [np.mean(v) for _, v in lines], "-", color=f"C{i}", label=name)
                for n, values in lines:
                    axes.plot([n] * len(values), values, ".", color=f"C{i}")
            axes.set(xscale="log", xlabel="labels", ylabel="wrong, %", ylim=(0, None))
            axes.legend(fontsize=8)
        headline(fig, record)
    return True


def fewer(base: tuple[str, ...], learned: tuple[str, ...]) -> Any:
    """Return the function of a claim: wrong with 100 labels by the best of some rows minus by the best of others."""
    best = lambda rows, names: min((rows[n]["wrong_100_percent"] for n in names if n in rows), key=np.mean)
    return lambda rows: best(rows, base) - best(rows, learned)


POINT, HIDDEN = posteriors.PointPosterior(), Denoising("mask", 0.5)
COUNTS, RUNS, TEXT_VAE, STATES = (
    "text: characters",
    "text: runs of 1 to 3",
    "text: VAE codes",
    "text: states of a model",
)
MFCC, MFCC_OFF, SPEECH_PCA = "speech: MFCC", "speech: MFCC, mean off", "speech: PCA, mean off"
SPEECH_VAE, SPEECH_OFF, SPEECH_HIDDEN = (
    "speech: VAE codes",
    "speech: VAE codes, mean off",
    "speech: denoising, mean off",
)
STUDY = Study(
    rows={
        COUNTS: row(texts, counted(1)),
        RUNS: row(texts, counted(3), COUNTS),
        TEXT_VAE: row(texts, text_codes, COUNTS),
        STATES: row(texts, language_states, COUNTS),
        MFCC: row(raw_speech, cepstra(off=False)),
        MFCC_OFF: row(raw_speech, cepstra(off=True), MFCC),
        SPEECH_PCA: row(speech, components, MFCC),
        SPEECH_VAE: row(speech, speech_codes(posteriors.NormalPosterior(), ELBO(warmup_steps=200), off=False), MFCC),
        SPEECH_OFF: row(speech, speech_codes(posteriors.NormalPosterior(), ELBO(warmup_steps=200), off=True), MFCC),
        SPEECH_HIDDEN: row(speech, speech_codes(POINT, HIDDEN, off=True), MFCC),
    },
    protocol=FewLabelsProtocol(),
    metric="wrong_100_percent",
    sources=sources,
    columns=("wrong_10_percent", "wrong_1000_percent", "wrong_all_percent", "commonest_wrong_percent"),
    claims=(
        Claim(
            "text, 100 labels: wrong by counts minus by what is learned, points",
            fewer((COUNTS, RUNS), (TEXT_VAE, STATES)),
            low=0.0,
        ),
        Claim(
            "speech, 100 labels: wrong by MFCC minus by codes, points",
            fewer((MFCC, MFCC_OFF), (SPEECH_VAE, SPEECH_OFF, SPEECH_HIDDEN)),
            low=0.0,
        ),
    ),
    figures=(curves,),
    profiles={
        "smoke": Profile(
            1,
            {"texts": 130, "width": 8, "latent": 4, "text_epochs": 1, "channels": (4, 8), "epochs": 1},
            (COUNTS, STATES, MFCC, SPEECH_HIDDEN),
            "small networks, 1 epoch, tones",
        ),
        "cpu": Profile(3),
    },
)
