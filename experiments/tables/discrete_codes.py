"""Discrete codes of equal rate: vector quantisation, residual quantisation, rounding and Gumbel-softmax.

Claim: At 64 bits an image vector quantisation, with one book or two, has the smallest distortion; rounding is 5% behind
    and Gumbel-softmax, whose decoder is trained on relaxed choices, 24%. All use nearly all of their rate.
Source: van den Oord et al. 2017 (VQ), Zeghidour et al. 2021 (residual), Mentzer et al. 2024 (finite scalar
    quantisation), Jang et al. 2017 and Maddison et al. 2017 (Gumbel-softmax). A comparison of this project's own.
Command: python -m experiments discrete_codes --data-dir DATA
Cost: 4 rows, 3 seeds, 8 epochs of 50,000 Fashion-MNIST images, 784-256-code.
Expected: no published numbers; errors of what is decoded from the exact codes, whose entropy is at most 64 bits.
"""

from experiments.running.listed import Listed
from experiments.running.table import Profile, Row, Table, changed
from models import Dense, Model, posteriors, priors
from models.likelihoods import NormalLikelihood
from models.objectives import Reconstruction
from models.terms import Commitment
from train import Config

NAMES: dict[str, tuple[posteriors.Posterior, int]] = {
    "VQ, 8 places of 256": (posteriors.VQPosterior(entries=256, width=4), 32),
    "residual VQ, 8 places, 2 books of 16": (posteriors.VQPosterior(entries=16, width=4, levels=2), 32),
    "finite scalar, 32 places of 4": (posteriors.FSQPosterior(levels=4), 32),
    "Gumbel, 32 places of 4": (posteriors.GumbelPosterior(size=4, final=0.3, steps=3_000), 128),
}
VQ = next(iter(NAMES))


def config(posterior: posteriors.Posterior, latent: int) -> Config:
    """Return an autoencoder with these codes, trained on squared error."""
    terms = (Commitment(),) if isinstance(posterior, posteriors.VQPosterior) else ()
    model = Model(
        encoder=Dense(hidden=(256,)),
        latent=latent,
        posterior=posterior,
        prior=priors.CodesPrior(),
        likelihood=NormalLikelihood(),
    )
    return Config(
        dataset="fashion_mnist", model=model, objective=Reconstruction(), terms=terms, epochs=8, batch_size=100
    )


def smoke(name: str, row: Row) -> Row:
    """Return a row on digits: one epoch of a small network."""
    fields = {"dataset": "digits", "model.encoder.hidden": (16,), "epochs": 1}
    return changed(row, fields)._replace(examples=200)


TABLE = Table(
    rows={
        name: Row(config(*parts), bound=None if name == VQ else VQ, measures=(Listed(("codes",)),))
        for name, parts in NAMES.items()
    },
    metric="coded_squared_error",
    columns=("code_rate_bits", "code_entropy_bits", "perplexity", "code_use"),
    figures=("intervals", "curves", "pictures"),
    profiles={
        "smoke": Profile(seeds=1, change=smoke, only=("finite scalar, 32 places of 4",), differs="digits, one epoch"),
        "cpu": Profile(seeds=3),
        "paper": Profile(seeds=5, change={"epochs": 100}),
    },
)
