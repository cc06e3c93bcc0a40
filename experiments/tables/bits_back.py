"""Lossless compression of binarised MNIST by small VAEs, and by general compressors.

Claim: Bits back coding with a VAE of one hidden layer takes fewer bits than gzip, bz2, PNG and WebP, and as many as its
    negative ELBO; every file decodes exactly.
Source: Townsend et al. 2019, Practical Lossless Compression with Latent Variables using Bits Back Coding, table 2,
    binarised MNIST: BB-ANS 0.19 bits per value, gzip 0.33, bz2 0.25, PNG 0.78, WebP 0.44. Bit-Swap: Kingma et al. 2019.
Command: python -m experiments bits_back --data-dir DATA
Cost: 2 models, 3 seeds, 40 epochs of 50,000 images; 2,000 test images, written and read back.
Expected: 0.19 and what gzip and bz2 took there; their pictures' sizes depend on the encoder's options.
Caveat: the general compressors see all images as one stream of packed bits (gzip, bz2) or one file each (PNG, WebP).
"""

from typing import Any, NamedTuple

import numpy as np

from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import numbers_of, shown, subject_of, trained
from models import Dense, Model, likelihoods, priors
from models.metrics.compression import general
from models.objectives import ELBO
from train import Config

METRIC, VAE, SWAP = "compression_bits", "bits back, 784-100-20", "Bit-Swap, 784-100-20-8"


class Protocol(NamedTuple):
    """The data, how long models are trained, and how many test images are written."""

    dataset: str = "binarized_mnist"
    epochs: int = 40
    hidden: int = 100
    latent: int = 20
    images: int = 2000
    levels: int = 2


def by_model(prior: Any) -> Any:
    """Return the row of a VAE with this prior: trained, then asked for the metric `compression`."""

    def row(protocol: Protocol, seed: int, data: Data) -> dict[str, Any]:
        two, network = protocol.levels == 2, Dense((protocol.hidden,))
        levels = likelihoods.CategoricalLikelihood(protocol.levels)
        likelihood: Any = likelihoods.BernoulliLikelihood() if two else levels
        model = Model(encoder=network, latent=protocol.latent, likelihood=likelihood, prior=prior)
        config = Config(
            dataset=protocol.dataset, model=model, objective=ELBO(), epochs=protocol.epochs, batch_size=100
        )
        run = trained(config, seed, data)
        return numbers_of(subject_of(run, seed, data, protocol.images), ["compression"])

    return row


def by_general(name: str) -> Any:
    """Return the row of a general compressor."""

    def row(protocol: Protocol, seed: int, data: Data) -> dict[str, Any]:
        x = shown(data, "test").batch.x[: protocol.images]
        symbols = np.rint(x * (protocol.levels - 1)).astype(np.int32).reshape(len(x), -1)
        return {METRIC: general(symbols, x.shape[1:])[f"{name}_bits"].value}

    return row


STUDY = Study(
    rows={
        VAE: Case(by_model(priors.StandardPrior()), paper=0.19, bound="bz2"),
        SWAP: Case(by_model(priors.DeeperPrior()), bound="bz2"),
        "gzip": Case(by_general("gzip"), paper=0.33, exact=True),
        "bz2": Case(by_general("bz2"), paper=0.25, exact=True),
        "png": Case(by_general("png"), paper=0.78, exact=True),
        "webp": Case(by_general("webp"), paper=0.44, exact=True),
    },
    protocol=Protocol(),
    metric=METRIC,
    columns=("negative_elbo_bits", "compression_file_bits", "compression_exact"),
    claims=(
        Claim("bits over the negative ELBO", lambda r: r[VAE][METRIC] / r[VAE]["negative_elbo_bits"], 0.99, 1.01, 1),
        Claim("share of values that came back", lambda r: r[VAE]["compression_exact"], low=1, expected=1),
        Claim("the same of Bit-Swap", lambda r: r[SWAP]["compression_exact"], low=1, expected=1),
    ),
    profiles={
        "smoke": Profile(
            1,
            {"dataset": "digits", "levels": 17, "epochs": 1, "hidden": 16, "latent": 4, "images": 100},
            differs="digits of 17 levels, 1 epoch",
        ),
        "cpu": Profile(3),
        "paper": Profile(5, {"epochs": 400, "images": 10_000}),
    },
)
