"""Intrinsic dimension from the Jacobian of a denoising autoencoder.

Claim: A wide denoising autoencoder keeps the directions along the data and flattens those across, so the number of
    singular values of its reconstruction's Jacobian above 1/2 is the dimension of the data, 2, 5 or 10 in 64 values,
    over a plateau of the noise.
Source: Rifai et al. 2011, section 5.3 (spectra of contractive encoders); Alain & Bengio 2014, section 3.4 (the
    Jacobian of r projects on the manifold). The counting rule is this project's.
Command: python -m experiments intrinsic_dimension
Cost: 3 seeds of 12 autoencoders 64-256-64-256-64 on made surfaces and 3 on digits, one program each.
Expected: 2, 5, 10 exactly; digits 13 at noise 0.2 (a prototype of this project, on other surfaces, at noise 0.1).
Caveats: the count holds on a plateau of the noise only (here 0.2 to 0.3; for the prototype's surfaces 0.1). Smaller
    noise leaves the directions of curvature standing, so too many are counted; noise larger than the surface merges
    its sheets. One count without the sweep is no evidence. The trace of the Jacobian is biased upwards and is no
    substitute. Digits have no known dimension: their row is a number, not a check.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.reporting.plots import headline
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained
from models import Dense, Model, posteriors
from models.likelihoods import NormalLikelihood
from models.objectives import Denoising
from models.terms.geometry.halves import reconstruction
from train import Config
from training.optimizers import Cosine
from training.pictures.drawing import figure

DIMENSIONS, NOISE = (2, 5, 10), (0.05, 0.1, 0.2, 0.3)
DIGITS = (0.1, 0.2, 0.3)
TRACE = {2: 2.4, 5: 7.5, 10: 14.7}  # at noise 0.1, of the prototype


class DimensionProtocol(NamedTuple):
    """What profiles change."""

    dataset: str = "digits"
    examples: int = 20_000
    """of a made surface"""
    epochs: int = 50
    digits_epochs: int = 300
    measured: int = 256
    """test examples whose Jacobians are counted"""


def surface(seed: int, dims: int, n: int) -> np.ndarray:
    """Return n points (n, 64) of a smooth surface of that dimension, values of mean 0 and variance 1 each.

    W₂ tanh(W₁ u), u uniform in [-1, 1]^dims, 64 hidden units; the surface is the seed's.
    """
    rng = np.random.default_rng([seed, dims])
    u = rng.uniform(-1, 1, (n, dims))
    hidden = np.tanh(u @ rng.normal(size=(dims, 64)) * 0.4 / np.sqrt(dims) + rng.normal(size=64) * 0.5)
    x = hidden @ rng.normal(size=(64, 64)) / 8
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)


def config(noise: float, epochs: int, batch_size: int) -> Config:
    """Return a denoising autoencoder whose code is as wide as the data: only the noise makes it contract."""
    encoder = Dense(hidden=(256,), activation="tanh")
    model = Model(encoder=encoder, latent=64, posterior=posteriors.PointPosterior(), likelihood=NormalLikelihood())
    rest: Any = {"schedule": Cosine(), "lr": 2e-3, "epochs": epochs, "batch_size": batch_size}
    return Config(model=model, objective=Denoising(level=noise), **rest)


@jax.jit
def jacobians(model: Any, x: Any) -> Any:
    """Return the Jacobian of every example's reconstruction."""
    return reconstruction(model, x).jacobians()


def measured(model: Any, x: np.ndarray, true: float | None) -> dict[str, Any]:
    """Return the counts of the reconstruction's Jacobian on examples."""
    j = np.asarray(jacobians(model, x))
    singular = np.linalg.svd(j, compute_uv=False)
    count, trace = (singular > 0.5).sum(1).mean(), np.trace(j, axis1=1, axis2=2).mean()
    out = {"intrinsic_dimension": count, "trace": trace, "spectrum": singular.mean(0)}
    return out | ({} if true is None else {"error": count - true})


def of_surface(protocol: DimensionProtocol, seed: int, data: Data, dims: int, noise: float) -> dict[str, Any]:
    """Return the row of a made surface."""
    x = surface(seed, dims, protocol.examples + protocol.measured)
    own = Data({"train": x[: protocol.examples]}, None)
    return measured(trained(config(noise, protocol.epochs, 256), seed, own), x[protocol.examples :], dims)


def of_digits(protocol: DimensionProtocol, seed: int, data: Data, noise: float) -> dict[str, Any]:
    """Return the row of digits."""
    model = trained(config(noise, protocol.digits_epochs, 128), seed, data)
    return measured(model, data.x("test", protocol.measured).reshape(-1, *data.dataset.shape), None)


def spectra(path: Path, record: dict[str, Any], arrays: Any) -> bool:
    """Draw the mean spectrum of every row, and the count against the noise."""
    from matplotlib import colormaps

    with figure(path, 9.4, 4.2) as fig:
        left, right = fig.subplots(1, 2, width_ratios=(3, 2))
        for i, dims in enumerate(DIMENSIONS):
            for j, noise in enumerate(NOISE):
                if (row := name(dims, noise)) in arrays:
                    colour, label = colormaps["tab10"](i), f"{dims} dimensions" if noise == 0.1 else None
                    values = np.mean(arrays[row]["spectrum"], 0)[:24]
                    left.plot(np.arange(1, 25), values, color=colour, alpha=0.25 + 0.25 * j, label=label)
            found = [np.mean(record["rows"][name(dims, s)]["metrics"]["intrinsic_dimension"]) for s in NOISE]
            right.plot(NOISE, found, "o-", color=colormaps["tab10"](i))
            right.axhline(dims, color=colormaps["tab10"](i), linewidth=0.8, linestyle=":")
        left.axhline(0.5, color="#333333", linewidth=0.8, linestyle="--")
        left.set(xlabel="singular value of r's Jacobian (more noise: darker)", ylabel="mean over test examples")
        right.set(xscale="log", yscale="log", xlabel="noise", ylabel="singular values above 1/2")
        left.legend()
        headline(fig, record)
    return True


def name(dims: int, noise: float) -> str:
    """Return the name of a row."""
    return f"{dims} dimensions, noise {noise:g}"


def exact(dims: int) -> Claim:
    """Return the claim that the count rounds to the truth."""
    count = lambda rows: rows[name(dims, 0.2)]["intrinsic_dimension"]
    return Claim(f"count at noise 0.2, truth {dims}", count, dims - 0.5, dims + 0.5, dims)


def trace(dims: int) -> Any:
    """Return the function of a trace, which the count is set against."""
    return lambda rows: rows[name(dims, 0.2)]["trace"]


def plateau(dims: int) -> Claim:
    """Return the claim that half as much noise again counts the same."""
    gap = lambda rows: rows[name(dims, 0.3)]["intrinsic_dimension"] - rows[name(dims, 0.2)]["intrinsic_dimension"]
    return Claim(f"count at noise 0.3 minus that at 0.2, truth {dims}", gap, -0.5, 0.5, 0)


rows = {name(d, s): Case(functools.partial(of_surface, dims=d, noise=s)) for d in DIMENSIONS for s in NOISE}
rows |= {f"digits, noise {s:g}": Case(functools.partial(of_digits, noise=s)) for s in DIGITS}
SMOKE = tuple(name(2, s) for s in NOISE) + tuple(name(d, s) for d in (5, 10) for s in NOISE)
STUDY = Study(
    rows=rows,
    protocol=DimensionProtocol(),
    metric="intrinsic_dimension",
    columns=("trace",),
    claims=(
        *map(exact, DIMENSIONS),
        *map(plateau, DIMENSIONS),
        *(Claim(f"trace at noise 0.2, truth {d}", trace(d), expected=seen) for d, seen in TRACE.items()),
        Claim("digits at noise 0.2", lambda r: r["digits, noise 0.2"]["intrinsic_dimension"], expected=13),
    ),
    figures=(spectra,),
    profiles={
        "smoke": Profile(1, {"examples": 512, "epochs": 1, "measured": 8}, SMOKE, differs="1 epoch of 512 examples"),
        "cpu": Profile(3),
        "paper": Profile(10, {"examples": 100_000, "epochs": 50}),
    },
)
