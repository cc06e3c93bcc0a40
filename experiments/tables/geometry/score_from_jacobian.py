"""The score from an autoencoder: an exact Jacobian penalty has not the small-noise variance of denoising.

Claim: (r(x) - x) / σ² estimates the score. Denoising is best at a middle σ, below which its variance grows; the
    penalty that it tends to, σ² ||J_r||²_F, has no such variance and stays good down to small σ; noise in antithetic
    pairs lies between.
Source: Alain & Bengio 2014, theorem 1 and section 3.3 (the reconstruction contractive autoencoder).
Command: python -m experiments score_from_jacobian
Cost: 3 methods, 6 values of σ, 3 seeds; a residual network of 2 x 64 units in the plane, one program for each method.
Expected: relative error at σ = 0.5, 0.3, 0.2, 0.1, 0.05, 0.02: denoising 0.68, 0.41, 0.24, 0.144, 0.25, 0.70;
    antithetic 0.68, 0.40, 0.23, 0.089, 0.059, 0.060; exact 0.66, 0.43, 0.26, 0.10, 0.057, 0.051 (a prototype, 8,000
    steps).
Caveats: a mixture of three normals in the plane with fresh examples at each step: no overfitting, and J costs two
    forward passes. In many dimensions the exact penalty is dear and one probe brings variance back. Errors at large σ
    are bias: the estimate is then of the smoothed density.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import grads
from experiments.reporting.plots import headline
from experiments.reporting.report import interval_of
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from training.pictures.drawing import INK, figure

NOISE = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02)
CENTRES = np.array([[1.5, 0.0], [-0.75, 1.3], [-0.75, -1.3]])
SPREAD = 0.4
METHODS = ("denoising", "antithetic", "exact")
SHADES = {"denoising": "#2f6db3", "antithetic": "#e07b28", "exact": "#3a8a4d"}


class ScoreProtocol(NamedTuple):
    """What profiles change."""

    steps: int = 4000
    batch: int = 256
    lr: float = 2e-3


def log_density(x: jax.Array) -> jax.Array:
    """Return log p(x) of the mixture, up to a constant."""
    return jax.nn.logsumexp(-jnp.sum(jnp.square(x[None] - CENTRES), axis=1) / (2 * SPREAD**2))


def draw(key: Any, n: int) -> jax.Array:
    """Return n examples of the mixture."""
    k_which, k_noise = jax.random.split(key)
    return jnp.asarray(CENTRES)[jax.random.randint(k_which, (n,), 0, 3)] + SPREAD * jax.random.normal(k_noise, (n, 2))


def start(key: Any, width: int = 64) -> list[tuple[jax.Array, jax.Array]]:
    """Return the layers of the network, the last one small."""
    sizes, out = (2, width, width, 2), []
    for i, k in enumerate(jax.random.split(key, 3)):
        scale = sizes[i] ** -0.5 * (0.01 if i == 2 else 1)
        out.append((scale * jax.random.normal(k, (sizes[i], sizes[i + 1])), jnp.zeros(sizes[i + 1])))
    return out


def r(params: Any, sigma: Any, x: jax.Array) -> jax.Array:
    """Return the reconstruction x + σ² s(x) of one point."""
    h = x
    for w, b in params[:-1]:
        h = jnp.tanh(h @ w + b)
    return x + sigma**2 * (h @ params[-1][0] + params[-1][1]) * 4


def loss(method: str, params: Any, sigma: Any, x: jax.Array, key: Any) -> jax.Array:
    """Return the mean loss of a batch over σ⁴, the same for all methods up to what noise adds."""
    at = lambda x: jax.vmap(lambda v: r(params, sigma, v))(x)
    if method == "exact":
        jacobian = grads.jacobian(lambda v: r(params, sigma, v))
        penalty = jnp.sum(jnp.square(jax.vmap(jacobian)(x)), axis=(1, 2))
        value = jnp.sum(jnp.square(at(x) - x), axis=1) + sigma**2 * penalty
    else:
        noise = sigma * jax.random.normal(key, x.shape)
        once = lambda e: jnp.sum(jnp.square(at(x + e) - x), axis=1)
        value = once(noise) if method == "denoising" else 0.5 * (once(noise) + once(-noise))
    return jnp.mean(value) / sigma**4


@functools.partial(jax.jit, static_argnums=(0, 1))
def fit(method: str, protocol: ScoreProtocol, sigma: Any, key: Any) -> Any:
    """Return the relative error of the estimated score on fresh examples, and the estimates on a grid."""
    k_start, k_steps, k_test = jax.random.split(key, 3)
    optimizer = optax.adam(optax.cosine_decay_schedule(protocol.lr, protocol.steps))
    params = start(k_start)

    def step(state: Any, i: Any) -> Any:
        params, moments = state
        k_x, k_noise = jax.random.split(jax.random.fold_in(k_steps, i))
        slope = jax.grad(lambda p: loss(method, p, sigma, draw(k_x, protocol.batch), k_noise))(params)
        change, moments = optimizer.update(slope, moments)
        return (optax.apply_updates(params, change), moments), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(protocol.steps))
    score = lambda x: jax.vmap(lambda v: (r(params, sigma, v) - v) / sigma**2)(x)
    x = draw(k_test, 4096)
    truth = jax.vmap(jax.grad(log_density))(x)
    error = jnp.sqrt(jnp.mean(jnp.sum((score(x) - truth) ** 2, 1)) / jnp.mean(jnp.sum(truth**2, 1)))
    return error, score(jnp.asarray(GRID))


GRID = np.stack(np.meshgrid(np.linspace(-2.4, 2.8, 15), np.linspace(-2.6, 2.6, 15)), -1).reshape(-1, 2)


def row(protocol: ScoreProtocol, seed: int, data: Data, method: str, sigma: float) -> dict[str, Any]:
    """Return the relative error of one method at one σ."""
    error, field = fit(method, protocol, jnp.float32(sigma), jax.random.key(seed))
    return {"relative_error": error, "field": np.asarray(field)}


def curves(path: Path, record: dict[str, Any], arrays: Any) -> bool:
    """Draw error against σ, and the fields of denoising and of the exact penalty at the least σ (seed 0)."""
    with figure(path, 11.0, 3.9) as fig:
        left, *fields = fig.subplots(1, 3, width_ratios=(4, 3, 3))
        sigmas = [s for s in NOISE if name("exact", s) in record["rows"]]
        for method in METHODS:
            found = [interval_of(record, name(method, s), "relative_error") for s in sigmas]
            left.plot(sigmas, [f.estimate for f in found], "o-", color=SHADES[method], label=method)
            values = [record["rows"][name(method, s)]["metrics"]["relative_error"] for s in sigmas]
            left.fill_between(
                sigmas, [min(v) for v in values], [max(v) for v in values], color=SHADES[method], alpha=0.2
            )
        left.set(xscale="log", yscale="log", xlabel="σ", ylabel="relative error of the score")
        left.set_xticks(sigmas, [f"{s:g}" for s in sigmas], minor=False)
        left.set_xticks([], minor=True)
        left.legend()
        for axes, method in zip(fields, ("denoising", "exact"), strict=True):
            field = arrays[name(method, sigmas[-1])]["field"][0]
            axes.quiver(*GRID.T, *field.T, color=SHADES[method], angles="xy", scale=160)
            axes.plot(*CENTRES.T, "+", color=INK)
            axes.set(title=f"{method}, σ = {sigmas[-1]:g}", aspect="equal")
            axes.grid(False)
        headline(fig, record)
    return True


def name(method: str, sigma: float) -> str:
    """Return the name of a row."""
    return f"{method}, σ = {sigma:g}"


def errors(rows: Any, method: str) -> np.ndarray:
    """Return the errors of a method, (σ, seeds), large σ first."""
    return np.stack([rows[name(method, s)]["relative_error"] for s in NOISE])


SEEN = {
    "denoising": (0.68, 0.41, 0.24, 0.144, 0.25, 0.70),
    "antithetic": (0.68, 0.40, 0.23, 0.089, 0.059, 0.060),
    "exact": (0.66, 0.43, 0.26, 0.10, 0.057, 0.051),
}
STUDY = Study(
    rows={name(m, s): Case(functools.partial(row, method=m, sigma=s), paper=None) for m in METHODS for s in NOISE},
    protocol=ScoreProtocol(),
    metric="relative_error",
    claims=(
        Claim(
            "denoising: error at the least σ over its best (an inner minimum)",
            lambda r: errors(r, "denoising")[-1] / errors(r, "denoising").min(0),
            1.5,
            expected=0.70 / 0.144,
        ),
        Claim(
            "exact: largest rise of the error from one σ to the next smaller one, down to 0.05 (it only falls)",
            lambda r: np.diff(errors(r, "exact")[:5], axis=0).max(0),
            high=0,
            expected=0.057 - 0.10,
        ),
        Claim(
            "exact's best error over denoising's best",
            lambda r: errors(r, "exact").min(0) / errors(r, "denoising").min(0),
            high=0.5,
            expected=0.051 / 0.144,
        ),
        Claim(
            "antithetic at the least σ over denoising",
            lambda r: errors(r, "antithetic")[-1] / errors(r, "denoising")[-1],
            high=0.5,
            expected=0.060 / 0.70,
        ),
        *(
            Claim(f"{m} at σ = {s:g}", lambda r, row=name(m, s): r[row]["relative_error"], expected=e)
            for m in METHODS
            for s, e in zip(NOISE, SEEN[m], strict=True)
            if s in (0.1, 0.02)
        ),
    ),
    figures=(curves,),
    profiles={
        "smoke": Profile(1, {"steps": 20, "batch": 32}, differs="20 steps"),
        "cpu": Profile(3),
        "paper": Profile(5, {"steps": 20_000, "batch": 1024}),
    },
)
