"""Samples of generators: autoencoders whose codes are matched to a prior or fitted afterwards, VAE, VAE-GAN, GAN.

Claim: A mixture fitted to the codes of a regularised autoencoder gives samples nearer to the data than its standard
    normal does; matching codes (WAE, AAE) and a critic of images (VAE-GAN) give nearer ones than the VAE.
Source: Tolstikhin et al. 2018 (WAE-MMD), Makhzani et al. 2016 (AAE), Ghosh et al. 2020 (RAE and its mixture of 10),
    Larsen et al. 2016 (VAE-GAN), Goodfellow et al. 2014 (GAN), Radford et al. 2016 (its Adam: b1 = 0.5);
    Kynkäänniemi et al. 2019 (precision and recall).
Command: python -m experiments generators --data-dir DATA
Cost: 8 rows, 3 seeds, 8 epochs of 50,000 Fashion-MNIST images, 784-256-16; 2,000 samples beside 2,000 test images.
Expected: no published number of these features. RAE with a mixture has an Inception distance (FID) of 9.9 on MNIST
    (Ghosh et al.; 9.1 reproduced), by convolutions of up to 1,024 channels and 100 epochs: another scale, not beside.
Caveats: the Fréchet distance is of the 64 features of our own classifier, which saw the same training images; a row of
    training images in place of samples says how near a perfect model would come. One weight of every term, no tuning;
    grey values under a Bernoulli's cross-entropy, so the VAE's loss is no bound. Dense networks, 4,000 steps.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.reporting.plots import headline, named_rows
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import numbers_of, shown, subject_of, trained
from models import Dense, Model
from models.codes import draw, prior_codes
from models.likelihoods import BernoulliLikelihood
from models.metrics.samples import features_by, frechet, precision_and_recall
from models.networks.nothing import Nothing
from models.objectives import ELBO, Reconstruction, Sampling
from models.posteriors import PointPosterior
from models.priors.fitted import fit_prior, with_prior_module
from models.terms import MMD, Adversarial, CodeNorm
from train import Config
from training.optimizers import Adam
from training.pictures.drawing import figure, is_image
from training.players import Opponent

PICTURES, GAN_RATE = 12, 2e-4


class GeneratorsProtocol(NamedTuple):
    """What profiles change."""

    dataset: str = "fashion_mnist"
    epochs: int = 8
    hidden: int = 256
    latent: int = 16
    components: int = 10
    """of the mixture that is fitted to the codes of training images"""
    codes: int = 10_000
    """training images whose codes it is fitted to"""
    images: int = 2_000
    """test images, and samples beside them"""


def row(protocol: GeneratorsProtocol, seed: int, data: Data, fitted: bool = False, **parts: Any) -> dict[str, Any]:
    """Return what samples of a model with these parts are worth, its error where it encodes, and some samples."""
    network = Dense(hidden=(protocol.hidden,))
    encodes = not isinstance(parts["objective"], Sampling)
    ends = {"encoder": network} if encodes else {"encoder": Nothing(), "decoder": network}
    posterior = parts.pop("posterior", None)
    model = Model(
        **ends,
        latent=protocol.latent,
        likelihood=BernoulliLikelihood(),
        **({} if posterior is None else {"posterior": posterior}),
    )
    config = Config(dataset=protocol.dataset, model=model, epochs=protocol.epochs, batch_size=100, **parts)
    made = trained(config, seed, data)
    if fitted:
        made = with_mixture(made, protocol, seed, data)
    subject = subject_of(made, seed, data, protocol.images)
    found = numbers_of(subject, ("samples", *(("errors",) if encodes else ())))
    z = prior_codes(made, jax.random.key(seed), PICTURES)
    kept = ("own_frechet", "own_mmd", "precision", "recall", "class_entropy", "sample_entropy", "mse")
    return {name: found[name] for name in kept if name in found} | {"samples": made.decode(z).mean}


def with_mixture(model: Any, protocol: GeneratorsProtocol, seed: int, data: Data) -> Any:
    """Return the model with a mixture fitted to its codes of training images in place of its prior."""
    key = jax.random.key(seed)
    x = shown(data, "train").batch.x[: protocol.codes]
    codes = jax.jit(lambda m, x: draw(m.encode(x), jax.random.fold_in(key, 1))[0])(model, x)
    return with_prior_module(model, fit_prior("mixture", model, codes, key, components=protocol.components)[1])


def training_images(protocol: GeneratorsProtocol, seed: int, data: Data) -> dict[str, Any]:
    """Return the same numbers of training images in place of samples: what a perfect model would get."""
    train, test = (shown(data, split) for split in ("train", "test"))
    features, _ = features_by(train.batch.x, np.asarray(train.labels))
    n = min(protocol.images, test.size, train.size)
    some = train.batch.x[np.random.default_rng(0).permutation(train.size)[:n]]
    seen, real = (features(x).astype(np.float64) for x in (some, test.batch.x[:n]))
    inside, covered = precision_and_recall(seen, real)
    numbers = {"own_frechet": frechet(seen, real), "precision": inside.mean(), "recall": covered.mean()}
    return numbers | {"samples": some[:PICTURES]}


def grid(path: Path, record: dict[str, Any], arrays: Any) -> bool:
    """Draw samples of every row, one row of pictures each (seed 0)."""
    shape = record["data"][record["protocol"]["dataset"]]["shape"]
    if not is_image(shape):
        return False
    kept = {name: found["samples"][0].reshape(-1, *shape) for name, found in arrays.items()}
    margin = 0.5 + 0.095 * max(map(len, kept))  # inches, for the names
    with figure(path, 0.62 * PICTURES + margin, 0.62 * len(kept) + 0.7) as fig:
        named_rows(fig.subplots(), kept, PICTURES)
        headline(fig, record)
    return True


POINT = {"objective": Reconstruction(), "posterior": PointPosterior()}
SLOW = Opponent(lr=GAN_RATE)
HALF = Adam(b1=0.5)
"""Adam with the shorter memory of Radford et al. 2016 (DCGAN), section 3: their GANs do not settle at 0.9."""
TRAINING, RAE, MIXTURE = "training images", "RAE, standard normal", "RAE, fitted mixture"
WAE, AAE, VAE, VAE_GAN, GAN = "WAE-MMD", "AAE", "VAE", "VAE-GAN", "GAN"
METHODS: dict[str, dict[str, Any]] = {
    RAE: POINT | {"terms": (CodeNorm(),)},
    MIXTURE: POINT | {"terms": (CodeNorm(),), "fitted": True},
    WAE: POINT | {"terms": (MMD(weight=10.0),)},
    AAE: POINT | {"terms": (Adversarial(on="code", weight=1.0),), "opponent": SLOW},
    VAE: {"objective": ELBO()},
    VAE_GAN: {"objective": ELBO(), "terms": (Adversarial(on="data", weight=20.0),), "opponent": SLOW},
    GAN: {"objective": Sampling(), "terms": (Adversarial(on="data"),), "lr": GAN_RATE, "optimizer": HALF}
    | {"opponent": Opponent(lr=GAN_RATE, optimizer=HALF)},
}
over = lambda top, bottom: lambda rows: rows[top]["own_frechet"] / rows[bottom]["own_frechet"]
STUDY = Study(
    rows={TRAINING: Case(training_images, exact=True)}
    | {name: Case(functools.partial(row, **parts)) for name, parts in METHODS.items()},
    protocol=GeneratorsProtocol(),
    metric="own_frechet",
    columns=("precision", "recall", "sample_entropy", "mse"),
    claims=(
        Claim("Fréchet distance, RAE with fitted mixture over standard normal", over(MIXTURE, RAE), high=1.0),
        Claim("Fréchet distance, WAE-MMD over VAE", over(WAE, VAE), high=1.0),
        Claim("Fréchet distance, AAE over VAE", over(AAE, VAE), high=1.0),
        Claim("Fréchet distance, VAE-GAN over VAE", over(VAE_GAN, VAE), high=1.0),
        Claim("recall, GAN minus VAE-GAN", lambda rows: rows[GAN]["recall"] - rows[VAE_GAN]["recall"], high=0.0),
    ),
    figures=("intervals", grid),
    profiles={
        "smoke": Profile(
            1,
            {"dataset": "digits", "epochs": 1, "hidden": 16, "latent": 4, "codes": 300, "images": 100},
            (TRAINING, MIXTURE, GAN),
            differs="digits, 1 epoch",
        ),
        "cpu": Profile(3),
        "paper": Profile(10, {"epochs": 100, "hidden": 1_024, "images": 10_000}),
    },
)
