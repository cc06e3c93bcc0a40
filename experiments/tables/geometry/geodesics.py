"""Geodesics of a trained decoder: energy, time, and how much shorter than straight lines.

Claim: Damped Gauss-Newton finds 64 geodesics in one call of seconds, with energies within 1% of a long reference. They
    are nearly straight by the mean metric, and by the expected one too where σ grows slowly away from the data.
Source: Arvanitidis et al. 2018, Latent space oddity (expected metric, section 4); Shao et al. 2018 (mean metric:
    "close to zero curvature").
Command: python -m experiments geodesics
Cost: 3 seeds of one autoencoder 64-256-128-2 on digits; 64 pairs of test codes, curves of 32 points.
Expected: length over that of the straight line by the mean metric: median 0.949, least 0.836; with the grown standard
    deviation least 0.319 (a prototype of this project).
Caveats: geodesics are found from the straight line and are local minima: `bent start better` is the share of pairs for
    which one of two bent starts ends more than 1% lower. The reference starts where ours does; it says that we have
    converged, not that a curve is the shortest. Without uncertainty the metric knows nothing of where the data are.
"""

import functools
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.reporting.plots import headline
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import shown, trained
from models import Dense, Model, posteriors
from models.likelihoods import NormalLikelihood
from models.metrics import travel
from models.objectives import Denoising
from train import Config
from training.optimizers import Cosine
from training.pictures.drawing import figure

SIDE = 24  # of the magnification map


class GeodesicsProtocol(NamedTuple):
    """What profiles change."""

    dataset: str = "digits"
    epochs: int = 200
    pairs: int = 64
    points: int = 32
    steps: int = 100
    reference: int = 500
    """steps of the long reference"""


def config(epochs: int) -> Config:
    """Return a denoising autoencoder with a code of two units."""
    encoder = Dense(hidden=(256, 128), activation="gelu")
    model = Model(encoder=encoder, latent=2, posterior=posteriors.PointPosterior(), likelihood=NormalLikelihood())
    return Config(model=model, objective=Denoising(level=0.1), schedule=Cosine(), lr=2e-3, epochs=epochs, batch_size=64)


@functools.lru_cache(maxsize=1)
def model_of(epochs: int, seed: int, data: Any) -> Any:
    """Return the model that both metrics look at."""
    return trained(config(epochs), seed, data.held)


class Holding:
    """Data as one argument of a cache."""

    def __init__(self, held: Data):
        self.held = held

    def __hash__(self) -> int:
        return hash(self.held.dataset.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Holding) and other.held.dataset is self.held.dataset


def row(protocol: GeodesicsProtocol, seed: int, data: Data, metric: str) -> dict[str, Any]:
    """Return what geodesics between random pairs of test codes measure."""
    model = model_of(protocol.epochs, seed, Holding(data))
    test, seen = shown(data, "test").batch.x, shown(data, "train").batch.x
    z = np.asarray(jax.jit(lambda m, x: m.encode(x).mean)(model, test))
    spread = travel.fit_spread(model, seen) if metric == "expected" else None
    ruler = travel.surface(model, "expected" if spread else "mean", spread=spread)
    rng = np.random.default_rng(seed)
    a, b = z[rng.choice(len(z), (2, protocol.pairs))]
    find = functools.partial(travel.geodesics, ruler, a, b, points=protocol.points)
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        found = find(steps=protocol.steps)
        seconds.append(time.perf_counter() - begin)
    long = find(steps=protocol.reference)
    line = np.linspace(0, 1, protocol.points)[None, :, None]
    across = (b - a)[:, None, ::-1] * np.array([1.0, -1.0])
    bent = [
        find(
            steps=protocol.steps, start=(1 - line) * a[:, None] + line * b[:, None] + s * np.sin(np.pi * line) * across
        )
        for s in (-0.4, 0.4)
    ]
    ratio = found.length / found.straight_length
    codes = travel.grid(z, SIDE)
    return {
        "length_ratio": np.median(ratio),
        "least_ratio": ratio.min(),
        "within_1_percent": np.mean(found.energy <= 1.01 * long.energy),
        "bent_start_better": np.mean(np.minimum(bent[0].energy, bent[1].energy) < 0.99 * found.energy),
        "call_s": min(seconds[1:]),
        "first_call_s": seconds[0],
        "curves": found.curve[:12],
        "codes": z,
        "grid": np.asarray(codes),
        "magnification": np.asarray(travel.magnification(ruler, codes)),
    }


def maps(path: Path, record: dict[str, Any], arrays: Any) -> bool:
    """Draw the magnification map of each metric with the codes of the test examples and a dozen geodesics (seed 0)."""
    with figure(path, 9.6, 4.6) as fig:
        for axes, (name, found) in zip(fig.subplots(1, len(arrays), squeeze=False)[0], arrays.items(), strict=True):
            x, y = found["grid"][0].reshape(-1, 2).T
            shown = axes.tricontourf(x, y, found["magnification"][0].reshape(-1), levels=24, cmap="viridis")
            axes.plot(*found["codes"][0].T, ".", color="white", markersize=1.5, alpha=0.5)
            for curve in found["curves"][0]:
                axes.plot(*curve.T, color="#e07b28", linewidth=1.4)
                axes.plot(*curve[[0, -1]].T, "--", color="white", linewidth=0.6)
            axes.set(title=name, xlim=(x.min(), x.max()), ylim=(y.min(), y.max()), xlabel="code 1", ylabel="code 2")
            axes.grid(False)
            fig.colorbar(shown, ax=axes, label="log-magnification, nats", shrink=0.8)
        headline(fig, record)
    return True


MEAN, GROWN = "mean metric", "expected metric, σ grows away from the data"
of = lambda row, name: lambda rows: rows[row][name]
STUDY = Study(
    rows={
        MEAN: Case(functools.partial(row, metric="mean")),
        GROWN: Case(functools.partial(row, metric="expected")),
    },
    protocol=GeodesicsProtocol(),
    metric="length_ratio",
    columns=("least_ratio", "within_1_percent", "bent_start_better", "call_s", "first_call_s"),
    claims=(
        Claim(
            "energies within 1% of the reference, mean metric (share)", of(MEAN, "within_1_percent"), 0.95, expected=1
        ),
        Claim("energies within 1% of the reference, expected metric (share)", of(GROWN, "within_1_percent"), 0.95),
        Claim("64 geodesics in one call, mean metric, s", of(MEAN, "call_s"), high=10),
        Claim("64 geodesics in one call, expected metric, s", of(GROWN, "call_s"), high=10),
        Claim("median length over the straight line's, mean metric", of(MEAN, "length_ratio"), 0.9, 1, 0.949),
        Claim("least length over the straight line's, mean metric", of(MEAN, "least_ratio"), expected=0.836),
        Claim("least length over the straight line's, expected metric", of(GROWN, "least_ratio"), 0, 0.7, 0.319),
    ),
    figures=(maps,),
    profiles={
        "smoke": Profile(
            1, {"epochs": 2, "pairs": 4, "points": 8, "steps": 4, "reference": 8}, differs="2 epochs, 4 pairs"
        ),
        "cpu": Profile(3),
        "paper": Profile(10, {"dataset": "mnist", "epochs": 100, "pairs": 4096, "reference": 2000}),
    },
)
