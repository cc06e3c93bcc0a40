"""One class of clothing is normal; and a known failure: likelihoods of another data set that are higher than one's own.

Claim: The mean AUROC over the ten classes of a VAE's likelihood is at least that of the better of PCA and isolation
    forest; yet the VAE of all clothing gives digits, which it never saw, a likelihood that does not tell them apart as
    its error does.
Source: Nalisnick et al. 2019, Do Deep Generative Models Know What They Don't Know?: models of Fashion-MNIST give MNIST
    the higher likelihood. One class against the rest as in Ruff et al. 2018 (Deep SVDD). No number of this protocol.
Command: python -m experiments one_class --data-dir DIR
Cost: 11 fits of two networks (784-128-64-16), 3 seeds, 2,000 images each, 8 epochs.
Expected: digits' likelihood at or above that of test clothing, an AUROC well below that of the error per lit pixel.
Caveats: Grey values as Bernoulli probabilities, as most such models do. Without --data-dir, digits of scikit-learn, one
    digit normal, and their negatives for the other data set: a test of the code.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import data as sets
from data.dataset import digest
from experiments.reporting.plots import headline
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained_on
from experiments.tables.uses.anomalies.anomaly import (
    AnomalyProtocol,
    Detector,
    Fold,
    components,
    forest,
    neighbours,
    said,
)
from models import ELBO, Dense, Model, Reconstruction, posteriors
from models.likelihoods import BernoulliLikelihood
from train import Config
from training.pictures.drawing import figure


class OneClassProtocol(NamedTuple):
    """What every score is fitted and tested on."""

    rows: int = 2000
    """training images of a class at most, and of all classes together"""
    test: int = 2000
    hidden: tuple[int, ...] = (128, 64)
    latent: int = 16
    epochs: int = 8
    samples: int = 16
    classes: int = 10


class Clothes(NamedTuple):
    """Flat images in [0, 1]: seen and y; new and truth; and images of another data set."""

    seen: np.ndarray
    y: np.ndarray
    new: np.ndarray
    truth: np.ndarray
    other: np.ndarray


Scores = Callable[[OneClassProtocol, np.ndarray, np.ndarray, int], np.ndarray]
"""(protocol, seen, new, seed) -> (m,): high means anomalous"""


@functools.cache
def clothes(protocol: OneClassProtocol, folder: str | None) -> Clothes:
    """Return the images of both sets. Raises data.DataError where they are not in the folder."""
    flat = lambda x, top: x.reshape(len(x), -1).astype(np.float32) / top
    if folder is None:
        digits = sets.load("digits").splits
        seen, new = (flat(digits[part].x, 16) for part in ("train", "test"))
        return Clothes(seen, np.asarray(digits["train"].y), new, np.asarray(digits["test"].y), 1 - new)
    own, other = (sets.load(name, folder).splits for name in ("fashion_mnist", "mnist"))
    n = protocol.test
    seen, new = flat(own["train"].x, 255), flat(own["test"].x[:n], 255)
    return Clothes(seen, np.asarray(own["train"].y), new, np.asarray(own["test"].y)[:n], flat(other["test"].x[:n], 255))


def model(what: str, point: bool = False) -> Scores:
    """Return what a VAE, or an autoencoder, says of new images: `anomaly.said`."""

    def score(protocol: OneClassProtocol, seen: np.ndarray, new: np.ndarray, seed: int) -> np.ndarray:
        return answers(protocol, seen.tobytes(), new.tobytes(), seen.shape[1], seed, point)[what]

    return score


@functools.lru_cache(40)
def answers(
    protocol: OneClassProtocol, seen: bytes, new: bytes, width: int, seed: int, point: bool
) -> dict[str, np.ndarray]:
    """Return all that a model of some images says of others."""
    x, other = (np.frombuffer(a, np.float32).reshape(-1, width) for a in (seen, new))
    config = Config(
        model=Model(
            encoder=Dense(protocol.hidden),
            latent=protocol.latent,
            posterior=posteriors.PointPosterior() if point else posteriors.NormalPosterior(),
            likelihood=BernoulliLikelihood(),
        ),
        objective=Reconstruction("cross_entropy") if point else ELBO(),
        epochs=protocol.epochs,
        batch_size=min(100, len(x)),
        lr=2e-3,
    )
    made = trained_on(config, seed, x)
    out = said(made, jnp.asarray(other), jax.random.key(seed), 0 if point else protocol.samples)
    return {k: np.asarray(v) for k, v in out.items()}


def usual(detector: Detector) -> Scores:
    """Return the score of a detector of rows."""

    def score(protocol: OneClassProtocol, seen: np.ndarray, new: np.ndarray, seed: int) -> np.ndarray:
        return detector(AnomalyProtocol(latent=protocol.latent), Fold(seen, new, np.zeros(len(new))), seed)

    return score


def row(score: Scores) -> Case:
    """Return the case of a score: AUROC of each class against the rest, and of clothing against the other data set."""

    def of(protocol: OneClassProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        from sklearn.metrics import roc_auc_score

        held, rng = clothes(protocol, data.folder), np.random.default_rng(seed)
        each = {}
        smallest = min(np.bincount(held.y).min(), protocol.rows)  # one size for all classes, one program
        for k in range(protocol.classes):
            some = rng.permutation(np.flatnonzero(held.y == k))[:smallest]
            each[f"auroc_{k}"] = roc_auc_score(held.truth != k, score(protocol, held.seen[some], held.new, seed))
        some = rng.permutation(len(held.seen))[: protocol.rows]
        both = score(protocol, held.seen[some], np.concatenate([held.new, held.other]), seed)
        own, other = both[: len(held.new)], both[len(held.new) :]
        area = np.mean(list(each.values()))
        other_area = roc_auc_score(np.arange(len(both)) >= len(own), both)
        found = {"missing_auroc": 1 - area, "auroc": area, "auroc_other_set": other_area}
        return found | each | {"own": own[:500], "other": other[:500]}

    return Case(of)


VAE, ERROR, PCA_ROW, FOREST = "VAE, likelihood", "VAE, error", "PCA", "isolation forest"


def failure(path: Path, record: Mapping[str, Any], arrays: Any) -> bool:
    """Draw how two scores lie over both data sets (seed 0), own set against the other."""
    shown = [name for name in (VAE, ERROR) if name in arrays]
    with figure(path, 8.4, 3.4) as fig:
        for axes, name in zip(fig.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            own, other = arrays[name]["own"][0], arrays[name]["other"][0]
            low, high = np.quantile(np.concatenate([own, other]), (0.005, 0.995))
            bins = np.linspace(low, high, 50).tolist()
            axes.hist(own, bins, alpha=0.6, label="test images of its own set")
            axes.hist(other, bins, alpha=0.6, label="of the other set, never seen")
            area = np.mean(record["rows"][name]["metrics"]["auroc_other_set"])
            axes.set(
                xlabel="-log p(x), nats" if name == VAE else "mean squared error", title=f"{name}: AUROC {area:.2f}"
            )
            axes.legend(fontsize=7)
        headline(fig, record)
    return True


def sources(data: Data) -> dict[str, Any]:
    """Return the digests of the images."""
    held = clothes(STUDY.protocol, data.folder)
    return {name: {"sha256": {"x": digest(x)}} for name, x in (("own set", held.seen), ("other set", held.other))}


def lead(rows: Any) -> Any:
    """Return by how much the VAE's mean AUROC over classes is ahead of the better of PCA and forest, per seed."""
    return rows[VAE]["auroc"] - max((rows[name]["auroc"] for name in (PCA_ROW, FOREST)), key=np.mean)


STUDY = Study(
    rows={
        "autoencoder, error": row(model("error", point=True)),
        ERROR: row(model("error")),
        VAE: row(model("likelihood")),
        PCA_ROW: row(usual(components)),
        FOREST: row(usual(forest)),
        "k nearest neighbours": row(usual(neighbours)),
    },
    protocol=OneClassProtocol(),
    metric="missing_auroc",
    columns=("auroc", "auroc_other_set"),
    claims=(
        Claim("mean AUROC over classes: the VAE's likelihood minus the better of PCA and forest", lead, low=0.0),
        Claim(
            "AUROC of the other data set: the VAE's error minus its likelihood",
            lambda rows: rows[ERROR]["auroc_other_set"] - rows[VAE]["auroc_other_set"],
            low=0.0,
        ),
    ),
    figures=("intervals", failure),
    sources=sources,
    profiles={
        "smoke": Profile(
            1,
            {"rows": 100, "hidden": (16,), "latent": 4, "epochs": 1, "samples": 2, "classes": 2},
            (ERROR, VAE, PCA_ROW, FOREST),
            "2 classes, narrow networks",
        ),
        "cpu": Profile(3),
        "long": Profile(5, {"rows": 6000, "test": 10_000, "epochs": 50, "samples": 100}),
    },
)
