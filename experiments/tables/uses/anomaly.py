"""Anomaly detection on 26 tables: what autoencoders say of a row, beside the usual detectors.

Claim: The mean AUROC of the best score of an autoencoder is at least that of the better of PCA and isolation forest.
Source: sets of ADBench (Han et al. 2022; underlying sets of ODDS and UCI), unsupervised: 70% of the rows, anomalies
    among them, for fitting without labels, 30% for testing, in proportion. Baselines are scikit-learn's with its
    defaults; PCA keeps as many components as the autoencoders have units.
Command: python -m experiments anomaly --data-dir DIR
Cost: 26 sets of up to 7,000 training rows, 3 seeds (each another split), 10 scores.
Expected: AUROC, means over the sets: no detector is best on all of them.
Caveats: Without --data-dir these are two sets of scikit-learn (wine, breast cancer), each with a tenth of one class
    left as anomalies: a test of the code, not of the detectors.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data import DataError
from data.dataset import digest
from experiments.running.claims import Claim, Numbers
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained
from models import ELBO, Dense, Model, Reconstruction, metrics, posteriors
from models.batch import Batch
from models.likelihoods import NormalLikelihood
from models.objectives import Objective
from models.priors import fit_prior
from train import Config
from training.examples import Examples


class AnomalyProtocol(NamedTuple):
    """What every score is fitted and tested on."""

    rows: int = 7000
    """training rows of a set at most"""
    steps: int = 1500
    hidden: int = 64
    latent: int = 8
    samples: int = 32
    """draws of the importance-weighted likelihood"""
    sets: int = 0
    """the first so many sets (0: all)"""


class Fold(NamedTuple):
    """A set cut in two, scaled by what is fitted on: train (n, d), test (m, d), anomalous (m,)."""

    train: np.ndarray
    test: np.ndarray
    anomalous: np.ndarray


@functools.cache
def tables(folder: str | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return {name: (x, y)}, y 1 for anomalies: those of DIR/adbench, or two of scikit-learn. Raises DataError."""
    if folder is not None:
        found = sorted((Path(folder) / "adbench").glob("*.npz"))
        if not found:
            raise DataError(
                f"{folder}/adbench holds no npz with X and y: fetch ADBench's classical sets, or leave it away"
            )
        return {path.stem.split("_", 1)[-1]: _read(path) for path in found}
    from sklearn import datasets

    out = {}
    for name, load in (("wine", datasets.load_wine), ("breast_cancer", datasets.load_breast_cancer)):
        x, y = load(return_X_y=True)
        rare = np.flatnonzero(y == 0)
        keep = np.sort(np.concatenate([np.flatnonzero(y != 0), rare[: len(rare) // 10 + 5]]))
        out[name] = (x[keep], (y[keep] == 0).astype(int))
    return out


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as held:
        return held["X"].astype(np.float64), held["y"].reshape(-1).astype(int)


@functools.cache
def fold(protocol: AnomalyProtocol, folder: str | None, name: str, seed: int) -> Fold:
    """Return a set cut by a seed, anomalies in proportion, columns with mean 0 and deviation 1 in training."""
    x, y = tables(folder)[name]
    rng = np.random.default_rng(seed)
    test = np.concatenate([rng.permutation(np.flatnonzero(y == k))[: round(0.3 * (y == k).sum())] for k in (0, 1)])
    seen = rng.permutation(np.setdiff1d(np.arange(len(x)), test))[: protocol.rows]
    mean, std = x[seen].mean(0), x[seen].std(0)
    scaled = lambda a: (a - mean) / np.where(std > 0, std, 1)
    return Fold(scaled(x[seen]), scaled(x[test]), y[test])


@functools.cache
def model_of(kind: str, protocol: AnomalyProtocol, folder: str | None, name: str, seed: int) -> Any:
    """Return the trained autoencoder ("point") or variational one ("normal") of a fold."""
    x = fold(protocol, folder, name, seed).train
    batch = min(128, len(x) // 2)
    point = kind == "point"
    objective: Objective = Reconstruction() if point else ELBO()
    config = Config(
        model=Model(
            encoder=Dense((protocol.hidden, protocol.hidden // 2)),
            latent=units(protocol, x),
            posterior=posteriors.PointPosterior() if point else posteriors.NormalPosterior(),
            likelihood=NormalLikelihood() if point else NormalLikelihood(scale="learned", std=0.3),
        ),
        objective=objective,
        epochs=max(1, protocol.steps // (len(x) // batch)),
        batch_size=batch,
    )
    return trained(config, seed, Data({"train": Examples(jnp.asarray(x, jnp.float32))}, None))


def units(protocol: AnomalyProtocol, x: np.ndarray) -> int:
    """Return the dimensions of a code: at most half the columns."""
    return max(1, min(protocol.latent, x.shape[1] // 2))


Score = Callable[[AnomalyProtocol, str | None, str, int], np.ndarray]
"""Of a fold's test rows, (m,): high means anomalous."""


def by_sklearn(make: Callable[[AnomalyProtocol, Fold, int], Any]) -> Score:
    """Return the score of a scikit-learn detector."""

    def score(protocol: AnomalyProtocol, folder: str | None, name: str, seed: int) -> np.ndarray:
        found = fold(protocol, folder, name, seed)
        return -make(protocol, found, seed).fit(found.train).score_samples(found.test)

    return score


def forest(protocol: AnomalyProtocol, found: Fold, seed: int) -> Any:
    """Return an isolation forest."""
    from sklearn.ensemble import IsolationForest

    return IsolationForest(random_state=seed)


def outlier_factor(protocol: AnomalyProtocol, found: Fold, seed: int) -> Any:
    """Return the local outlier factor of 20 neighbours."""
    from sklearn.neighbors import LocalOutlierFactor

    return LocalOutlierFactor(novelty=True)


def one_class(protocol: AnomalyProtocol, found: Fold, seed: int) -> Any:
    """Return a support vector machine of one class."""
    from sklearn.svm import OneClassSVM

    return OneClassSVM()


def neighbours(protocol: AnomalyProtocol, folder: str | None, name: str, seed: int) -> np.ndarray:
    """Return the distance to the fifth training row."""
    from sklearn.neighbors import NearestNeighbors

    found = fold(protocol, folder, name, seed)
    return NearestNeighbors(n_neighbors=5).fit(found.train).kneighbors(found.test)[0][:, -1]


def components(protocol: AnomalyProtocol, folder: str | None, name: str, seed: int) -> np.ndarray:
    """Return the squared error of principal components."""
    from sklearn.decomposition import PCA

    found = fold(protocol, folder, name, seed)
    pca = PCA(units(protocol, found.train)).fit(found.train)
    return np.square(found.test - pca.inverse_transform(pca.transform(found.test))).sum(1)


def by_model(kind: str, what: str) -> Score:
    """Return a score of an autoencoder: error, negative_elbo, likelihood (importance-weighted) or density of the code.

    Density: of the mean code under a mixture of normals fitted to the training rows' codes.
    """

    def score(protocol: AnomalyProtocol, folder: str | None, name: str, seed: int) -> np.ndarray:
        found, model = fold(protocol, folder, name, seed), model_of(kind, protocol, folder, name, seed)
        x, key = jnp.asarray(found.test, jnp.float32), jax.random.key(seed)
        if what == "density":
            codes = np.asarray(jax.jit(lambda x: model.encode(x).mean)(jnp.asarray(found.train, jnp.float32)))
            prior = fit_prior("mixture", model, codes, key, components=5)[1]
            return -np.asarray(jax.jit(lambda x: prior(model, None, None).log_prob(model.encode(x).mean))(x))
        if what == "likelihood":
            bound = jax.jit(lambda x: metrics.log_likelihood(model, Batch(x), key, protocol.samples))
            return -np.asarray(bound(x)["log_likelihood_nats"])
        name_of = {"error": "mse", "negative_elbo": "negative_elbo_nats"}[what]
        return np.asarray(jax.jit(lambda x: metrics.per_example(model, Batch(x), key)[name_of])(x))

    return score


def row(score: Score) -> Case:
    """Return the case of a score: its AUROC and AUPRC on every set, and their means."""

    def of(protocol: AnomalyProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        from sklearn.metrics import average_precision_score, roc_auc_score

        out, areas, precisions = {}, [], []
        for name in list(tables(data.folder))[: protocol.sets or None]:
            found = fold(protocol, data.folder, name, seed)
            values = np.nan_to_num(score(protocol, data.folder, name, seed), nan=np.inf, posinf=1e30)
            areas.append(roc_auc_score(found.anomalous, values))
            precisions.append(average_precision_score(found.anomalous, values))
            out[f"auroc_{name}"] = areas[-1]
        return {"missing_auroc": 1 - np.mean(areas), "auroc": np.mean(areas), "auprc": np.mean(precisions)} | out

    return Case(of)


OURS = {
    "autoencoder, error": row(by_model("point", "error")),
    "autoencoder, density of codes": row(by_model("point", "density")),
    "VAE, error": row(by_model("normal", "error")),
    "VAE, negative ELBO": row(by_model("normal", "negative_elbo")),
    "VAE, likelihood of 32 draws": row(by_model("normal", "likelihood")),
}
USUAL = {
    "PCA": row(components),
    "isolation forest": row(by_sklearn(forest)),
    "local outlier factor": row(by_sklearn(outlier_factor)),
    "one-class SVM": row(by_sklearn(one_class)),
    "k nearest neighbours": row(neighbours),
}


SMOKE = ("autoencoder, error", "VAE, likelihood of 32 draws", "PCA", "isolation forest")


def sources(data: Data) -> dict[str, Any]:
    """Return the digests of all sets."""
    return {name: {"sha256": {"x": digest(x), "y": digest(y)}} for name, (x, y) in tables(data.folder).items()}


def lead(numbers: Numbers) -> np.ndarray:
    """Return by how much the best of our scores is ahead of the better of PCA and isolation forest, per seed."""
    best = max((numbers[name]["auroc"] for name in OURS if name in numbers), key=np.mean)
    return best - max((numbers[name]["auroc"] for name in ("PCA", "isolation forest")), key=np.mean)


STUDY = Study(
    rows=OURS | USUAL,
    protocol=AnomalyProtocol(),
    profiles={
        "smoke": Profile(
            2, {"steps": 20, "hidden": 8, "samples": 2, "sets": 1}, SMOKE, "one set, 20 steps of narrow networks"
        ),
        "cpu": Profile(3),
    },
    metric="missing_auroc",
    columns=("auroc", "auprc"),
    sources=sources,
    claims=(Claim("AUROC of the best autoencoder above the better of PCA and isolation forest", lead, low=0.0),),
)
