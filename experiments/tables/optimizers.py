"""Optimizers and learning-rate decays on one autoencoder.

Claim: Adam ends lowest under every decay; in a run as short as five epochs every decay costs, the fastest (exponential)
    most and cosine least.
Source: A comparison of this project's own; the methods: Robbins & Monro 1951, Polyak 1964, Duchi et al. 2011,
    Tieleman & Hinton 2012, Kingma & Ba 2015, Loshchilov & Hutter 2017 (cosine). Each method at one rate of its
    own: the best of a grid of 3 per decade by validation error after 3 epochs without decay (the search below).
Command: python -m experiments optimizers --data-dir DATA
Cost: 20 rows, 2 seeds, 5 epochs of 50,000 images, 784-256-32.
Expected: no published numbers; Adam below the others under the same decay, no decay best for each method.

    python -m experiments.search --sampler grid --minimize mse --data-dir DATA --dataset mnist \\
        --model.posterior point --model.latent 32 --model.encoder.hidden [256] --objective reconstruction \\
        --optimizer adam --epochs 3 --lr 3e-4,1e-3,3e-3
"""

from experiments.running.table import Profile, Row, Table
from models import Dense, Model, posteriors
from models.objectives import Reconstruction
from train import Config
from training.optimizers import (
    SGD,
    AdaGrad,
    Adam,
    AnyOptimizer,
    AnySchedule,
    Constant,
    Cosine,
    Exponential,
    Momentum,
    RMSprop,
    Steps,
)

METHODS: dict[str, tuple[AnyOptimizer, float]] = {
    "SGD": (SGD(), 0.05),
    "momentum": (Momentum(), 0.003),
    "AdaGrad": (AdaGrad(), 0.03),
    "RMSprop": (RMSprop(), 1e-3),
    "Adam": (Adam(), 3e-3),
}
DECAYS: dict[str, AnySchedule] = {
    "constant": Constant(),
    "exponential": Exponential(),
    "steps": Steps(),
    "cosine": Cosine(),
}
MODEL = Model(encoder=Dense(hidden=(256,)), latent=32, posterior=posteriors.PointPosterior())

TABLE = Table(
    rows={
        f"{method}, {decay}": Row(
            Config(
                dataset="mnist",
                model=MODEL,
                objective=Reconstruction(),
                optimizer=optimizer,
                lr=lr,
                schedule=schedule,
                epochs=5,
            )
        )
        for method, (optimizer, lr) in METHODS.items()
        for decay, schedule in DECAYS.items()
    },
    metric="squared_error",
    columns=("rmse",),
    figures=("intervals", "curves"),
    profiles={
        "smoke": Profile(
            seeds=2,
            change={"dataset": "digits", "epochs": 2, "model.encoder.hidden": (32,)},
            only=("Adam, cosine",),
            differs="digits, 32 hidden units, 2 epochs",
        ),
        "cpu": Profile(seeds=2),
        "paper": Profile(seeds=5, change={"epochs": 50}),
    },
)
