"""Manifold likelihood: the density that an autoencoder trained by likelihood gives, against the true one.

Claim: With the decoder's exact log-volume in its loss an autoencoder learns the density of data on a surface; the
    surrogate of free-form flows does as well for two products. Volumes of encoder and decoder agree, and the
    surrogate's gradient points as the exact one, only where noise makes the encoder invert the decoder.
Source: Caterini et al. 2021 (exact); Sorrenson et al. 2024, Lifting architectural constraints of injective flows
    (surrogate). Their figures are of images without a known density.
Command: python -m experiments manifold_likelihood
Cost: 5 rows, 3 seeds, a made surface of 2 dimensions in 16 values, 20,000 examples; networks 16-64-64-2 and back.
Expected: gradient cosine of the surrogate's mean 0.88 without noise, 0.99 with 0.1, of one probe 0.84 and 0.94; -log p:
    free-form 0.2 nats above exact, plain 4.6 above (a prototype of this project on digits, code of 8).
Caveats: the density is that of the surface where the decoder puts it, so an example off it is scored at its projection:
    the squared error stands beside every likelihood. From the encoder's side the number may be lower or higher than the
    truth; a likelihood from one side alone is no evidence. The plain row gets the normal that fits its codes: on a
    first surface, whose coordinates were normal, it came as near to the truth as the others, so that surface was bent.
    With -log p weighted 0.02 beside the squared error, as at first, the densities were half a nat off, little better
    than without it: reconstruction held the codes.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.reporting.plots import headline
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained
from models import Dense, Model, posteriors
from models.likelihoods import NormalLikelihood
from models.objectives import Denoising
from models.terms import CodeNorm, LogVolume
from models.terms.geometry.check import passed
from models.terms.geometry.halves import decoder, encoder
from models.terms.geometry.volume import half_log_det
from train import Config
from training.optimizers import Cosine
from training.pictures.drawing import INK, TRAIN, figure

ROWS: dict[str, tuple[str, float]] = {
    "no likelihood": ("", 0.0),
    "exact": ("exact", 0.0),
    "exact, noise 0.1": ("exact", 0.1),
    "free-form": ("surrogate", 0.0),
    "free-form, noise 0.1": ("surrogate", 0.1),
}


class ManifoldProtocol(NamedTuple):
    """What profiles change."""

    dims: int = 2
    values: int = 16
    examples: int = 20_000
    measured: int = 1000
    hidden: tuple[int, ...] = (64, 64)
    epochs: int = 60
    weight: float = 0.1
    """of -log p beside the squared error"""
    probes: int = 64
    """whose mean is the surrogate's gradient"""


def surface(seed: int, dims: int, values: int) -> Callable[[jax.Array], jax.Array]:
    """Return a curved map u (dims,) -> x (values,), the seed's own: A w + B tanh(C w + c), w = u sheared.

    w_2i = u_2i + u_2i-1² - 1: bent, so that codes that are linear in w are no normal.
    """
    rng = np.random.default_rng([seed, dims, values])
    a, b = 0.5 * rng.normal(size=(values, dims)), 0.4 * rng.normal(size=(values, 8))
    c, shift = rng.normal(size=(8, dims)), rng.normal(size=8)

    def point(u: jax.Array) -> jax.Array:
        w = u.at[1::2].add(u[: dims - dims % 2 : 2] ** 2 - 1)
        return jnp.asarray(a, u.dtype) @ w + jnp.asarray(b, u.dtype) @ jnp.tanh(c @ w + shift)

    return point


@functools.partial(jax.jit, static_argnums=(0, 1))
def made(protocol: ManifoldProtocol, seed: int) -> tuple[jax.Array, jax.Array]:
    """Return examples x (n, values) of u ~ N(0, I), and log p(x) = log N(u) - ½ log det JᵀJ, nats."""
    point = surface(seed, protocol.dims, protocol.values)
    n = protocol.examples + protocol.measured
    u = jax.random.normal(jax.random.key(1000 + seed), (n, protocol.dims))
    log_p = jax.scipy.stats.norm.logpdf(u).sum(1) - half_log_det(jax.vmap(jax.jacfwd(point))(u))
    return jax.vmap(point)(u), log_p


class Sides(NamedTuple):
    """What a model says of each example; logarithms in nats."""

    from_decoder: Any
    from_encoder: Any
    squared_error: Any
    inverse_error: Any


@jax.jit
def sides(model: Any, x: jax.Array, mean: jax.Array, covariance: jax.Array) -> Sides:
    """Return log p(x) by the volumes of decoder and encoder under a normal of codes, and how far f is from g's inverse.

    inverse_error: ||J_f - J_g⁺||_F / ||J_g⁺||_F.
    """
    f = encoder(model, x)
    z = f(f.at)
    g = decoder(model, z)
    j_f, j_g = f.jacobians(), g.jacobians()
    inverse = jnp.linalg.pinv(j_g)
    size = lambda a: jnp.sqrt(jnp.sum(jnp.square(a), axis=(1, 2)))
    log_p = jax.vmap(lambda one: jax.scipy.stats.multivariate_normal.logpdf(one, mean, covariance))(z)
    return Sides(
        log_p - half_log_det(j_g),
        log_p + half_log_det(jnp.swapaxes(j_f, 1, 2)),
        jnp.sum(jnp.square(g(z) - f.at), axis=1),
        size(j_f - inverse) / size(inverse),
    )


@functools.partial(jax.jit, static_argnums=2)
def cosines(model: Any, x: jax.Array, probes: int, key: Any) -> tuple[jax.Array, jax.Array]:
    """Return the cosine of the surrogate's gradient in the encoder, mean of probes and one, with the exact one."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def slope(term: Any, sign: float, key: Any) -> jax.Array:
        value = lambda p: sign * jnp.mean(term(passed(nnx.merge(graph, p, rest), x, key), None))
        return jax.flatten_util.ravel_pytree(jax.grad(value)(params))[0]

    exact = slope(LogVolume(of="encoder"), -1.0, key)  # -½ log det J_f J_fᵀ is the decoder's where f inverts g
    each = jax.lax.map(lambda k: slope(LogVolume(way="surrogate"), 1.0, k), jax.random.split(key, probes))
    cosine = lambda a: a @ exact / (jnp.linalg.norm(a) * jnp.linalg.norm(exact))
    return cosine(each.mean(0)), jnp.mean(jax.vmap(cosine)(each))


def row(protocol: ManifoldProtocol, seed: int, data: Data, way: Any, noise: float) -> dict[str, Any]:
    """Return how far a trained model's density is from the true one."""
    x, truth = (np.asarray(a) for a in made(protocol, seed))
    network = Dense(hidden=protocol.hidden, activation="tanh")
    parts: Any = {"posterior": posteriors.PointPosterior(), "likelihood": NormalLikelihood()}
    weight = protocol.weight
    terms: Any = (CodeNorm(weight=weight), LogVolume(weight=weight, way=way)) if way else ()
    run: Any = {"schedule": Cosine(), "lr": 2e-3, "epochs": protocol.epochs, "batch_size": 256}
    config = Config(
        model=Model(encoder=network, latent=protocol.dims, **parts),
        objective=Denoising(level=noise),
        terms=terms,
        **run,
    )
    model = trained(config, seed, Data({"train": x[: protocol.examples]}, None))
    x, truth = x[protocol.examples :], truth[protocol.examples :]
    mean: Any = np.zeros(protocol.dims)
    covariance: Any = np.eye(protocol.dims)
    if not way:
        codes = np.asarray(model.encode(jnp.asarray(x)).mean)
        mean, covariance = codes.mean(0), np.atleast_2d(np.cov(codes.T))
    found = Sides(*(np.asarray(a, np.float64) for a in sides(model, x, mean, covariance)))
    many, one = cosines(model, x[:256], protocol.probes, jax.random.key(seed))
    return {
        "density_error_nats": np.abs(found.from_decoder - truth).mean(),
        "encoder_density_error_nats": np.abs(found.from_encoder - truth).mean(),
        "nll_above_truth_nats": (truth - found.from_decoder).mean(),
        "encoder_nll_above_truth_nats": (truth - found.from_encoder).mean(),
        "squared_error": found.squared_error.mean(),
        "inverse_error": found.inverse_error.mean(),
        "surrogate_cosine": float(many),
        "surrogate_cosine_one_probe": float(one),
        "truth": truth[:400],
        "from_decoder": found.from_decoder[:400],
        "from_encoder": found.from_encoder[:400],
    }


def scatter(path: Path, record: dict[str, Any], arrays: Any) -> bool:
    """Draw the model's log-density from both sides against the true one (seed 0)."""
    names = [name for name in ROWS if name in arrays]
    with figure(path, 2.7 * len(names) + 0.6, 3.6) as fig:
        for axes, name in zip(fig.subplots(1, len(names), squeeze=False, sharey=True)[0], names, strict=True):
            truth, outer, inner = (arrays[name][key][0] for key in ("truth", "from_decoder", "from_encoder"))
            axes.plot(truth, inner, ".", color="#e07b28", markersize=2, label="encoder's volume")
            axes.plot(truth, outer, ".", color=TRAIN, markersize=2, label="decoder's volume")
            ends = np.array([truth.min(), truth.max()])
            axes.plot(ends, ends, color=INK, linewidth=0.8)
            axes.set(title=name, xlabel="true log p, nats", ylim=(ends[0] - 4, ends[1] + 8))
        fig.axes[0].set(ylabel="log p of the model, nats")
        fig.axes[0].legend(loc="upper left", fontsize=7, markerscale=4)
        headline(fig, record)
    return True


of = lambda row, number: lambda rows: rows[row][number]
STUDY = Study(
    rows={name: Case(functools.partial(row, way=way, noise=noise)) for name, (way, noise) in ROWS.items()},
    protocol=ManifoldProtocol(),
    metric="density_error_nats",
    columns=(
        "encoder_density_error_nats",
        "nll_above_truth_nats",
        "encoder_nll_above_truth_nats",
        "squared_error",
        "inverse_error",
        "surrogate_cosine",
        "surrogate_cosine_one_probe",
    ),
    claims=(
        Claim(
            "density error, exact over no likelihood",
            lambda r: r["exact"]["density_error_nats"] / r["no likelihood"]["density_error_nats"],
            high=0.5,
        ),
        Claim(
            "-log p, free-form minus exact, both with noise, nats",
            lambda r: r["free-form, noise 0.1"]["nll_above_truth_nats"] - r["exact, noise 0.1"]["nll_above_truth_nats"],
            high=0.3,
            expected=10.48 - 10.27,
        ),
        Claim(
            "surrogate's gradient cosine without noise",
            of("free-form", "surrogate_cosine"),
            expected=0.88,
        ),
        Claim(
            "surrogate's gradient cosine with noise",
            of("free-form, noise 0.1", "surrogate_cosine"),
            0.95,
            expected=0.99,
        ),
        Claim(
            "one probe's gradient cosine with noise",
            of("free-form, noise 0.1", "surrogate_cosine_one_probe"),
            0.85,
            expected=0.94,
        ),
        Claim(
            "distance of J_f from the inverse of J_g, exact with noise over without",
            lambda r: r["exact, noise 0.1"]["inverse_error"] / r["exact"]["inverse_error"],
            high=0.5,
        ),
    ),
    figures=(scatter,),
    profiles={
        "smoke": Profile(
            1,
            {"examples": 512, "measured": 32, "epochs": 1, "probes": 2},
            ("no likelihood", "free-form, noise 0.1"),
            differs="1 epoch of 512 examples",
        ),
        "cpu": Profile(3),
        "paper": Profile(5, {"dims": 8, "values": 64, "examples": 100_000, "hidden": (256, 256)}),
    },
)
