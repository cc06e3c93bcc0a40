"""Diagonal posteriors make decoders orthogonal, and so does the deterministic regulariser that they amount to.

Claim: A VAE with a diagonal posterior has a decoder whose Jacobian's columns are nearly orthogonal; with a full
    covariance, without noise, or after a rotation of the code they are not. The deterministic regulariser with
    independent units does the same to an autoencoder, its full form does not.
Source: Rolinek et al. 2019, Variational autoencoders pursue PCA directions (by accident), table 1 (distance to
    orthogonality); Kumar & Poole 2020, On implicit regularization in beta-VAEs, section 4 (the regulariser).
Command: python -m experiments vae_orthogonality
Cost: 7 rows, 3 seeds, digits, code of 6; five programs.
Expected: random rotations 1.920; autoencoder 1.936; VAE at β = 0.02, 0.1, 0.3: 1.745, 1.333, 1.228; full covariance
    1.86 to 1.91; deterministic, diagonal 1.498; full 1.930 (a prototype of this project).
Caveats: the distance is that of V in J = UΣVᵀ, which is arbitrary where singular values meet. Passive units are left
    out, so a row with fewer active units has another random baseline: compare a row with its own control (`over
    control`). The digits are few and small: the effect's size is of this model, not of VAEs.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.reporting.plots import headline
from experiments.reporting.report import interval_of
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import shown, trained
from models import Dense, Model, posteriors
from models.likelihoods import NormalLikelihood
from models.metrics import report_card
from models.objectives import ELBO, Reconstruction
from models.terms import Implicit
from models.terms.geometry.halves import decoder
from train import Config
from training.optimizers import Cosine
from training.pictures.drawing import INK, TRAIN, figure, tiles

LATENT = 6
POINT = posteriors.PointPosterior()
BETAS = (0.02, 0.1, 0.3)


class OrthogonalityProtocol(NamedTuple):
    """What profiles change."""

    dataset: str = "digits"
    epochs: int = 400
    measured: int = 450


def row(
    protocol: OrthogonalityProtocol, seed: int, data: Data, posterior: Any, objective: Any, terms: tuple[Any, ...] = ()
) -> Any:
    """Return the distance to orthogonality of a trained decoder, beside that of the same code turned at random."""
    encoder = Dense(hidden=(128, 128), activation="tanh")
    model = Model(encoder=encoder, latent=LATENT, posterior=posterior, likelihood=NormalLikelihood())
    run = Config(model=model, objective=objective, terms=terms, schedule=Cosine(), lr=2e-3, epochs=protocol.epochs)
    found = trained(run, seed, data)
    x = shown(data, "test").batch.x[: protocol.measured]
    card: Any = report_card(found, x, jax.random.key(seed))
    z, mean = _both(found, x)
    columns = decoder(found, z[:1]).jacobians()[0].T
    return {
        "orthogonality_distance": card["orthogonality_distance"],
        "over_control": card["orthogonality_distance"] / card["orthogonality_distance_random"],
        "turned_over_control": card["orthogonality_distance_rotated"] / card["orthogonality_distance_random"],
        "active_units": card["active_units"],
        "independence_contrast_nats": card["independence_contrast_nats"],
        "squared_error": np.mean(np.sum(np.square(np.asarray(mean).reshape(len(x), -1) - x.reshape(len(x), -1)), 1)),
        "columns": np.asarray(columns),
    }


@jax.jit
def _both(model: Any, x: Any) -> Any:
    z = model.encode(x).mean
    return z, model.decode(z).mean


def bars(path: Path, record: dict[str, Any], arrays: Any) -> bool:
    """Draw each row's distance over that of random rotations beside the turned code's, and columns as pictures."""
    rows = list(record["rows"])
    with figure(path, 10.4, 0.62 * len(rows) + 1.2) as fig:
        left, right = fig.subplots(1, 2, width_ratios=(3, 2))
        for y, row in enumerate(rows):
            for name, colour, shift in (("over_control", TRAIN, -0.2), ("turned_over_control", "#bbbbbb", 0.2)):
                found = interval_of(record, row, name)
                error = [[found.estimate - found.low], [found.high - found.estimate]] if found.low > -9 else None
                label = {"over_control": "as trained", "turned_over_control": "code turned"}[name] if not y else None
                left.barh(y + shift, found.estimate, 0.36, xerr=error, color=colour, ecolor=INK, label=label)
        left.axvline(1, color=INK, linewidth=0.8, linestyle="--")
        left.set_yticks(range(len(rows)), rows)
        left.set(ylim=(len(rows) - 0.4, -0.6), xlabel="distance to orthogonality over that of random rotations")
        fig.legend(loc="outside lower left", ncols=2)
        columns = np.stack([arrays[row]["columns"][0] for row in rows])
        side = round(columns.shape[2] ** 0.5)
        size = np.abs(columns).max(axis=(1, 2), keepdims=True)
        images = (0.5 + 0.5 * columns / size).reshape(-1, side, side, 1)
        right.imshow(tiles(images, len(rows), LATENT), interpolation="nearest", aspect="auto")
        right.set(xticks=[], yticks=[], title="columns of J at the first test digit")
        right.grid(False)
        headline(fig, record)
    return True


nll = Reconstruction(error="nll")
case = lambda *parts: Case(functools.partial(row, posterior=parts[0], objective=parts[1], terms=parts[2:]))
VAE = {beta: f"VAE, β = {beta:g}" for beta in BETAS}
FULL, AE, DIAGONAL, WHOLE = (
    "VAE, full covariance, β = 0.1",
    "autoencoder",
    "deterministic, diagonal",
    "deterministic, full",
)
of = lambda row, name="over_control": lambda rows: rows[row][name]
STUDY = Study(
    rows={AE: case(POINT, nll)}
    | {VAE[beta]: case(posteriors.NormalPosterior(), ELBO(beta=beta)) for beta in BETAS}
    | {
        FULL: case(posteriors.FullPosterior(), ELBO(beta=0.1)),
        DIAGONAL: case(POINT, nll, Implicit(weight=0.1)),
        WHOLE: case(POINT, nll, Implicit(weight=0.1, form="full")),
    },
    protocol=OrthogonalityProtocol(),
    metric="orthogonality_distance",
    columns=("over_control", "turned_over_control", "active_units", "independence_contrast_nats", "squared_error"),
    claims=(
        Claim("VAE, β = 0.1, over random rotations", of(VAE[0.1]), high=0.75, expected=1.333 / 1.92),
        Claim("autoencoder over random rotations", of(AE), 0.95, 1.05, 1.936 / 1.92),
        Claim("full covariance over random rotations", of(FULL), 0.95, 1.05, 1.886 / 1.92),
        Claim("deterministic, full, over random rotations", of(WHOLE), 0.95, 1.05, 1.93 / 1.92),
        Claim(
            "deterministic, diagonal, minus deterministic, full (over random rotations)",
            lambda r: r[DIAGONAL]["over_control"] - r[WHOLE]["over_control"],
            high=-0.1,
            expected=(1.498 - 1.93) / 1.92,
        ),
        Claim("VAE, β = 0.1, its code turned, over random rotations", of(VAE[0.1], "turned_over_control"), 0.9),
    ),
    figures=(bars,),
    profiles={
        "smoke": Profile(1, {"epochs": 1, "measured": 16}, (AE, VAE[0.1]), differs="1 epoch"),
        "cpu": Profile(3),
        "paper": Profile(10, {"dataset": "mnist", "epochs": 100, "measured": 10_000}),
    },
)
