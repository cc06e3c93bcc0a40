"""Rate, distortion and active units of a VAE against beta.

Claim: Beta walks along the rate-distortion curve: a larger beta spends fewer nats on the code, in fewer dimensions.
Source: Higgins et al. 2017 (beta-VAE), Alemi et al. 2018, Fixing a Broken ELBO, figure 3 (the plane); active units:
    Burda et al. 2016, section 5.
Command: python -m experiments beta --data-dir DATA
Cost: 8 betas, 3 seeds, 10 epochs of 50,000 binarised images; one program for all 24 runs.
Expected: rate falls and distortion rises with beta; -ELBO is lowest at beta = 1.
"""

from experiments.running.table import Profile, Row, Table
from models import Dense, Model
from models.objectives import ELBO
from train import Config

BETAS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)

TABLE = Table(
    rows={
        f"β = {beta:g}": Row(
            Config(
                dataset="binarized_mnist",
                model=Model(encoder=Dense(hidden=(400,)), latent=20),
                objective=ELBO(beta=beta),
                epochs=10,
            )
        )
        for beta in BETAS
    },
    metric="negative_elbo_nats",
    columns=("kl_nats", "nll_nats", "active_units"),
    figures=("rate_distortion", "curves"),
    profiles={
        "smoke": Profile(
            seeds=2,
            change={"dataset": "digits", "binarise": "static", "epochs": 5, "model.encoder.hidden": (64,)},
            differs="digits, 64 hidden units, 5 epochs",
        ),
        "cpu": Profile(seeds=3),
        "paper": Profile(seeds=5, change={"epochs": 100}),
    },
)
