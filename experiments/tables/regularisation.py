"""Regularisation of an autoencoder that has too few examples: the gap between training and test.

Claim: Ten times the data closes the gap that 5,000 examples leave; no regulariser comes near. Batch norm, noise of 0.1
    on the input and weight decay lower the test error a little, dropout and much noise raise it.
Source: A comparison of this project's own; denoising: Vincent et al. 2010; dropout: Srivastava et al. 2014; batch
    norm: Ioffe & Szegedy 2015.
Command: python -m experiments regularisation --data-dir DATA
Cost: 12 rows, 2 seeds, 2,340 steps of 128 images, 784-512-256-32.
Expected: no published numbers; "more data" has the smallest gap and the smallest test error, by far.
"""

import dataclasses
from typing import Any

from experiments.running.table import Profile, Row, Table, changed
from models import Dense, Model, posteriors
from models.objectives import Denoising, Reconstruction
from train import Config, Weights

FEW = 5_000  # of 50,000 training images
NOISE = (0.1, 0.3)
EPOCHS, MORE_EPOCHS = 60, 6  # of 39 and of 390 steps: every row sees as many batches


def config(network: dict[str, Any] | None = None, **changes: Any) -> Config:
    """Return the common autoencoder with some parts changed."""
    model = Model(encoder=Dense(hidden=(512, 256), **(network or {})), latent=32, posterior=posteriors.PointPosterior())
    return dataclasses.replace(
        Config(dataset="mnist", model=model, objective=Reconstruction(), epochs=EPOCHS), **changes
    )


def smoke(name: str, row: Row) -> Row:
    """Return a row on digits: 300 examples or all of them, 2 epochs."""
    fields = {"dataset": "digits", "model.encoder.hidden": (32,), "epochs": 2, "batch_size": 64}
    return changed(row, fields)._replace(examples=row.examples and 300)


def paper(name: str, row: Row) -> Row:
    """Return a row with ten times the steps."""
    return changed(row, {"epochs": 10 * (EPOCHS if row.examples else MORE_EPOCHS)})


TABLE = Table(
    rows={
        "none": Row(config(), examples=FEW),
        **{f"L1, {v:g}": Row(config(penalty=Weights(l1=v, l2=0.0)), bound="none", examples=FEW) for v in (1e-5, 1e-4)},
        **{f"L2, {v:g}": Row(config(penalty=Weights(l1=0.0, l2=v)), bound="none", examples=FEW) for v in (1e-4, 1e-3)},
        **{f"dropout, {v:g}": Row(config({"dropout": v}), bound="none", examples=FEW) for v in (0.02, 0.1)},
        "batch norm": Row(config({"norm": "batch"}), bound="none", examples=FEW),
        "early stopping": Row(config(patience=5), bound="none", examples=FEW),
        **{f"denoising, {v:g}": Row(config(objective=Denoising(level=v)), bound="none", examples=FEW) for v in NOISE},
        "more data": Row(config(epochs=MORE_EPOCHS), bound="none"),
    },
    metric="squared_error",
    columns=("seen_squared_error", "gap_squared_error"),
    figures=("gap", "curves", "profile"),
    seen=True,
    profiles={
        "smoke": Profile(seeds=1, change=smoke, only=("L1, 0.0001", "L2, 0.001"), differs="digits, 2 epochs"),
        "cpu": Profile(seeds=2),
        "paper": Profile(seeds=5, change=paper),
    },
)
