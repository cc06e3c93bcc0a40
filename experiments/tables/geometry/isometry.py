"""Isometric regularisation: what a code without distortion costs in reconstruction.

Claim: The relaxed distortion, exact or by one probe, brings the decoder's metric near a multiple of the identity
    (condition to a half, variance to a fifth, or less) for at most 10% more squared error.
Source: Lee et al. 2022, Regularized autoencoders for isometric representation learning (the measure and its estimate
    by probes; figures of MNIST there are of other networks and weights).
Command: python -m experiments isometry
Cost: 5 rows, 3 seeds, digits, code of 2; three programs.
Expected: condition 5.93, 2.10, 1.48, 1.23, variance 4.01, 0.49, 0.16, 0.04, squared error 2.148, 2.214, 2.286, 2.282
    at weights 0, 0.3, 1, 3; one probe at 3: 1.22, 0.045, 2.304 (a prototype of this project).
Caveats: condition and variance are of the metric at the codes of test examples; the term acts between them too. The
    mean of a condition number is led by the worst examples: `metric_condition_median` stands beside it. Weights are in
    units of the squared error summed over values, so they are not those of the paper.
"""

import functools
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
from models.metrics import report_card, travel
from models.objectives import Reconstruction
from models.terms import Isometric
from train import Config
from training.optimizers import Cosine
from training.pictures.drawing import TRAIN, figure

SIDE = 9  # of the grid of ellipses


class IsometryProtocol(NamedTuple):
    """What profiles change."""

    dataset: str = "digits"
    epochs: int = 300
    measured: int = 450


def row(protocol: IsometryProtocol, seed: int, data: Data, weight: float, way: Any) -> dict[str, Any]:
    """Return condition and variance of the metric of a trained decoder, and its squared error."""
    encoder = Dense(hidden=(256, 128), activation="tanh")
    model = Model(encoder=encoder, latent=2, posterior=posteriors.PointPosterior(), likelihood=NormalLikelihood())
    terms: Any = (Isometric(weight=weight, way=way),) if weight else ()
    run = Config(
        model=model, objective=Reconstruction(), terms=terms, schedule=Cosine(), lr=2e-3, epochs=protocol.epochs
    )
    found = trained(run, seed, data)
    x = shown(data, "test").batch.x[: protocol.measured]
    card = report_card(found, x, jax.random.key(seed))
    z, mean = _both(found, x)
    ruler = travel.surface(found)
    places = np.asarray(travel.grid(np.asarray(z), SIDE)).reshape(-1, 2)
    kept = {name: card[name] for name in ("metric_condition", "metric_condition_median", "metric_variance")}
    return kept | {
        "squared_error": np.mean(np.sum(np.square(np.asarray(mean).reshape(len(x), -1) - x.reshape(len(x), -1)), 1)),
        "codes": np.asarray(z),
        "places": places,
        "jacobians": np.asarray(jax.jit(lambda s, z: s.jacobians(z)[1])(ruler, places)),
    }


@jax.jit
def _both(model: Any, x: Any) -> Any:
    z = model.encode(x).mean
    return z, model.decode(z).mean


def ellipses(path: Path, record: dict[str, Any], arrays: Any) -> bool:
    """Draw the steps of equal length in the code, without the term and with it (seed 0): circles where isometric."""
    angle = np.linspace(0, 2 * np.pi, 60)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    names = [name for name in (NONE, named(3.0, "exact"), named(3.0, "probe")) if name in arrays]
    with figure(path, 3.6 * len(names), 4.2) as fig:
        for axes, name in zip(fig.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            z, places, j = (arrays[name][key][0] for key in ("codes", "places", "jacobians"))
            near = np.linalg.norm(places[:, None] - z[None], axis=2).min(1)
            reach = np.ptp(z, axis=0).max() / SIDE
            step = 0.45 * reach * np.median(np.linalg.norm(j, axis=(1, 2)))
            axes.plot(*z.T, ".", color="#cccccc", markersize=2)
            for place, one in zip(places[near < reach], j[near < reach], strict=True):
                _, s, vt = np.linalg.svd(one, full_matrices=False)
                axes.plot(
                    *(place[:, None] + vt.T @ (circle * (step / np.maximum(s, 1e-9))[:, None])), color=TRAIN, lw=0.9
                )
            axes.set(title=name, aspect="equal", xlabel="code 1", ylabel="code 2")
            spread = np.ptp(z, axis=0).max() / 2 * 1.15
            for limits, centre in zip((axes.set_xlim, axes.set_ylim), (z.max(0) + z.min(0)) / 2, strict=True):
                limits(centre - spread, centre + spread)
        headline(fig, record)
    return True


NONE = "no term"
named = lambda weight, way: f"{way}, weight {weight:g}" if weight else NONE
WEIGHTS = [(0.0, "exact"), (0.3, "exact"), (1.0, "exact"), (3.0, "exact"), (3.0, "probe")]
over = lambda way, name: lambda rows: rows[named(3.0, way)][name] / rows[NONE][name]
STUDY = Study(
    rows={named(w, way): Case(functools.partial(row, weight=w, way=way)) for w, way in WEIGHTS},
    protocol=IsometryProtocol(),
    metric="metric_condition",
    columns=("metric_condition_median", "metric_variance", "squared_error"),
    claims=(
        Claim("condition, exact at 3 over no term", over("exact", "metric_condition"), high=0.5, expected=1.23 / 5.93),
        Claim("variance, exact at 3 over no term", over("exact", "metric_variance"), high=0.2, expected=0.04 / 4.01),
        Claim(
            "squared error, exact at 3 over no term", over("exact", "squared_error"), high=1.1, expected=2.282 / 2.148
        ),
        Claim(
            "condition, one probe at 3 over no term", over("probe", "metric_condition"), high=0.5, expected=1.22 / 5.93
        ),
        Claim(
            "squared error, one probe at 3 over no term",
            over("probe", "squared_error"),
            high=1.1,
            expected=2.304 / 2.148,
        ),
    ),
    figures=(ellipses,),
    profiles={
        "smoke": Profile(1, {"epochs": 1, "measured": 16}, (NONE, "probe, weight 3"), differs="1 epoch"),
        "cpu": Profile(3),
        "paper": Profile(10, {"dataset": "mnist", "epochs": 100, "measured": 10_000}),
    },
)
