"""Priors of one autoencoder on static MNIST: standard, mixture, VampPrior, flow.

Claim: A prior that is trained with the rest fits the codes better than a standard normal, and the likelihood with it.
Source: Tomczak & Welling 2018, VAE with a VampPrior, table 1, static MNIST, one level: standard 88.56, VampPrior 85.57
    (log p(x) by 5,000 importance samples), gated 784-300-300, 40 dimensions, 500 pseudo-inputs, up to 2,000 epochs.
Command: python -m experiments priors --data-dir DATA
Cost: 4 rows, 3 seeds, 8 epochs of 20,000 images, 784-200-40; 50 importance samples of all 10,000 test images.
Expected: standard last; in `cpu` every row stands far above the published one, which is trained to its end.
Caveats: in `cpu` the networks are smaller, without gates, and trained for 1,600 steps, and 50 draws leave a bound that
    is looser than the published one's 5,000; `paper` has ReLU for gated units and Adam for normalised Adam.
"""

from experiments.running.measures import Likelihood
from experiments.running.table import Profile, Row, Table, changed
from models import Dense, Model, priors
from models.objectives import ELBO
from train import Config

STANDARD, VAMP = "standard", "VampPrior, 100 inputs"
PRIORS: dict[str, priors.Prior] = {
    STANDARD: priors.StandardPrior(),
    "mixture, 100 normals": priors.MixturePrior(components=100),
    VAMP: priors.VampPrior(inputs=100),
    "flow, 4 couplings": priors.FlowPrior(),
}
PUBLISHED = {STANDARD: 88.56, VAMP: 85.57}
SHORT = "8 epochs of 20,000 images, not 2,000 of 50,000; 784-200 without gates; 50 draws, not 5,000"


def row(name: str, prior: priors.Prior) -> Row:
    """Return the row of a prior: the weight of the KL rises over the first half."""
    model = Model(encoder=Dense(hidden=(200,)), latent=40, prior=prior)
    config = Config(
        dataset="binarized_mnist", model=model, objective=ELBO(warmup_steps=800), epochs=8, batch_size=100, lr=1e-3
    )
    paper = PUBLISHED.get(name)
    return Row(
        config,
        paper=paper,
        bound=None if name == STANDARD else STANDARD,
        examples=20_000,
        differs=SHORT if paper else "",
        measures=(Likelihood(50),),
    )


def smoke(name: str, row: Row) -> Row:
    """Return a row on digits: one epoch of a small network, few draws."""
    fields = {"dataset": "digits", "binarise": "static", "model.encoder.hidden": (16,), "model.latent": 4, "epochs": 1}
    return changed(row, fields)._replace(measures=(Likelihood(2),), examples=200)


def paper(name: str, row: Row) -> Row:
    """Return a row as published but for gates and the optimizer."""
    fields = {
        "model.encoder.hidden": (300, 300),
        "epochs": 2_000,
        "patience": 50,
        "lr": 5e-4,
        "objective.warmup_steps": 50_000,
    }
    if name == VAMP:
        fields["model.prior.inputs"] = 500
    differs = "ReLU for gated units, Adam for normalised Adam" if row.paper else ""
    return changed(row, fields)._replace(measures=(Likelihood(5_000),), examples=None, differs=differs)


TABLE = Table(
    rows={name: row(name, prior) for name, prior in PRIORS.items()},
    metric="importance_nll_nats",
    columns=("negative_elbo_nats", "nll_nats", "kl_nats", "active_units"),
    figures=("intervals", "curves", "pictures"),
    profiles={
        "smoke": Profile(seeds=1, change=smoke, only=(STANDARD, VAMP), differs="digits, one epoch"),
        "cpu": Profile(seeds=3),
        "paper": Profile(seeds=5, change=paper),
    },
)
