"""Hierarchies of one, two and three levels of code, and the KL that each level holds.

Claim: With warm-up and free bits every level of a ladder holds information.
Source: Sønderby et al. 2016, Ladder Variational Autoencoders, section 3 (warm-up, what is combined by precision); free
    bits: Kingma et al. 2016. Published likelihoods are of five levels, batch norm and 2,000 epochs: none is set beside.
Command: python -m experiments ladder --data-dir DATA
Cost: 4 rows, 3 seeds, 8 epochs of 20,000 images, 784-200-24; 50 importance samples of all 10,000 test images.
Expected: more than 0.5 nats on every level of the ladders; fewer on the top one without warm-up and free bits.
Caveats: 1,600 steps are too few for depth to pay off in the likelihood. Level 1 is the top one, the last is next to the
    image, so the columns of two depths are not of the same level.
"""

from typing import Any

from experiments.running.listed import Listed
from experiments.running.measures import Likelihood
from experiments.running.table import Profile, Row, Table, changed
from models import Dense, Model, posteriors, priors
from models.objectives import ELBO
from train import Config

SHIPPED = ELBO(warmup_steps=800, free_bits=0.1)
FLAT = "one level"
LEVELS = Listed(("kl",))
DEPTHS = {2: (8, 16), 3: (4, 8, 12)}


def row(groups: tuple[int, ...] = (), objective: ELBO = SHIPPED) -> Row:
    """Return the row of a ladder with so many units per level, top first; none: one level."""
    more: dict[str, Any] = {}
    if groups:
        more = {"posterior": posteriors.ChainPosterior(groups, ladder=True), "prior": priors.ChainPrior(groups)}
    config = Config(
        dataset="binarized_mnist",
        model=Model(encoder=Dense(hidden=(200,)), latent=24, **more),
        objective=objective,
        epochs=8,
        batch_size=100,
    )
    return Row(config, bound=FLAT if groups else None, examples=20_000, measures=(Likelihood(50), LEVELS))


def smoke(name: str, row: Row) -> Row:
    """Return a row on digits: one epoch of a small network, few draws."""
    fields = {"dataset": "digits", "binarise": "static", "model.encoder.hidden": (16,), "epochs": 1}
    return changed(row, fields)._replace(measures=(Likelihood(2), LEVELS), examples=200)


TABLE = Table(
    rows={
        FLAT: row(),
        "two levels": row(DEPTHS[2]),
        "three levels": row(DEPTHS[3]),
        "three levels, no warm-up or free bits": row(DEPTHS[3], ELBO()),
    },
    metric="importance_nll_nats",
    columns=("kl_level_1_nats", "kl_level_2_nats", "kl_level_3_nats", "negative_elbo_nats", "kl_nats"),
    figures=("intervals", "curves", "pictures"),
    profiles={
        "smoke": Profile(seeds=1, change=smoke, only=(FLAT, "three levels"), differs="digits, one epoch"),
        "cpu": Profile(seeds=3),
        "paper": Profile(
            seeds=5, change=lambda name, row: changed(row, {"epochs": 500, "patience": 50})._replace(examples=None)
        ),
    },
)
