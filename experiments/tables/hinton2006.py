"""The deep autoencoder of Hinton and Salakhutdinov 2006 on MNIST.

Claim: Trained from random weights with AdamW, batch norm and a little noise on the input, the 784-1000-500-250-30
    autoencoder beats the layer-wise pretrained one and comes to a fifth of PCA's error.
Source: Hinton & Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks, Science 313 (2006), page 506:
    squared error per test image 3.00, logistic PCA 8.01, PCA 13.87 (30 dimensions, 60,000 training images; ours keeps
    10,000 of them for validation).
Command: python -m experiments hinton2006 --data-dir DATA
Cost: 1 seed, 100 epochs of 50,000 images, 784-1000-500-250-30.
Expected: the goal is 2.6, not reached: about 2.75 (without noise and batch norm it overfits); PCA 13.87.
"""

from experiments.running.table import Pca, Profile, Row, Table
from models import Dense, Model, posteriors
from models.objectives import Denoising
from train import Config
from training.optimizers import AdamW, Cosine, Updates

CONFIG = Config(
    dataset="mnist",
    model=Model(
        encoder=Dense(hidden=(1000, 500, 250), activation="gelu", norm="batch"),
        latent=30,
        posterior=posteriors.PointPosterior(),
    ),
    objective=Denoising(level=0.1),
    optimizer=AdamW(weight_decay=0.05),
    schedule=Cosine(),
    updates=Updates(warmup=0.02),
    lr=1.4e-3,
    epochs=100,
    batch_size=128,
)

TABLE = Table(
    rows={
        "PCA, 30 dimensions": Row(Pca("mnist", 30), paper=13.87),
        "784-1000-500-250-30": Row(CONFIG, paper=3.00, bound=2.6),
    },
    metric="squared_error",
    columns=("rmse", "mae"),
    figures=("intervals", "pictures", "curves"),
    profiles={
        "smoke": Profile(
            seeds=1,
            change={"dataset": "digits", "epochs": 2, "model.encoder.hidden": (100, 50, 40)},
            differs="digits, a tenth of the width, 2 epochs",
        ),
        "cpu": Profile(seeds=1),
        "paper": Profile(seeds=5, change={"epochs": 200}),
    },
)
