"""Dense and convolutional autoencoders of MNIST against PCA of the same width.

Claim: At 32 dimensions every autoencoder beats PCA, even one linear layer before a sigmoid decoder; convolutions help
    most, and in a dozen epochs depth alone does not help.
Source: The first autoencoders of this project (dense 784-512-256-128-64-32, dense 784-64-32, one layer 784-32,
    convolutional); they published no numbers. PCA in closed form, Pearson 1901.
Command: python -m experiments seeds_autoencoders --data-dir DATA
Cost: 4 rows, 2 seeds, 12 epochs of 50,000 images.
Expected: every row below PCA, the convolutional one lowest.
"""

from experiments.running.table import Pca, Profile, Row, Table
from models import Conv, Dense, Model, posteriors
from models.objectives import Reconstruction
from train import Config
from training.optimizers import Cosine

BELOW = "PCA, 32 dimensions"


def autoencoder(encoder: Dense | Conv) -> Config:
    """Return an autoencoder with 32 code dimensions, trained on squared error with pixels in (0, 1)."""
    model = Model(encoder=encoder, latent=32, posterior=posteriors.PointPosterior())
    return Config(dataset="mnist", model=model, objective=Reconstruction(), schedule=Cosine(), epochs=12)


TABLE = Table(
    rows={
        BELOW: Row(Pca("mnist", 32)),
        "one layer 784-32": Row(autoencoder(Dense(hidden=())), bound=BELOW),
        "dense 784-64-32": Row(autoencoder(Dense(hidden=(64,))), bound=BELOW),
        "dense 784-512-256-128-64-32": Row(autoencoder(Dense(hidden=(512, 256, 128, 64))), bound=BELOW),
        "convolutional 16-32": Row(autoencoder(Conv(channels=(16, 32), hidden=(128,))), bound=BELOW),
    },
    metric="squared_error",
    columns=("mse", "rmse", "mae"),
    figures=("intervals", "pictures", "curves"),
    profiles={
        "smoke": Profile(
            seeds=1,
            change={"dataset": "digits", "epochs": 2},
            only=(BELOW, "convolutional 16-32"),
            differs="digits, 2 epochs",
        ),
        "cpu": Profile(seeds=2),
        "paper": Profile(seeds=5, change={"epochs": 100}),
    },
)
