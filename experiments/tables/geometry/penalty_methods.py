"""Which way to compute the contractive penalty: value, gradient, time, compilation, memory, and where training ends.

Claim: Train with the closed form where the encoder has one layer and with one random probe where it is deep: both cost
    about as much as a plain step, and one probe ends where the exact penalty ends. Evaluate exactly.
Source: Rifai et al. 2011 (closed form); Hutchinson 1989 (probes); Alain & Bengio 2014 (differences are denoising). The
    comparison is this project's.
Command: python -m experiments penalty_methods
Cost: 8 ways on 3 encoders of 784 values, 3 seeds, and 3 ways trained on digits: about 150 compilations.
Expected: one layer: the closed form as fast as no penalty; deep: one probe ends where the exact one ends (squared
    error 0.454 and 0.454, squared norm 13.997 and 13.999 in a prototype).
Caveats: times are ratios to a plain step of the same network in the same process, in turns, on a machine that others
    used: read factors, not digits. A probe's gradient points elsewhere than the exact one at any single step (cosine
    below 1) and is right on the mean; its column of error says by how much. Memory is what XLA plans for temporary
    arrays.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.reporting.plots import headline
from experiments.reporting.report import interval_of
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained
from models import Autoencoder, Dense, Model, Sizes, posteriors
from models.likelihoods import NormalLikelihood
from models.objectives import Denoising
from models.terms import Contractive
from models.terms.geometry.check import passed
from models.terms.geometry.halves import Map, encoder
from train import Config
from training.optimizers import Cosine
from training.pictures.drawing import figure

NETWORKS = {"1 layer": ((), 1000), "3 layers": ((256, 64), 32), "5 layers": ((512, 256, 128, 64), 32)}
VALUES = 784


class MethodsProtocol(NamedTuple):
    """What profiles change."""

    dataset: str = "digits"
    batch: int = 64
    repeats: int = 15
    epochs: int = 100


def dense(mode: Any) -> Callable[..., Any]:
    """Return the penalty by all of J, example by example, in that mode of JAX itself."""
    return lambda model, half, key: jnp.sum(jnp.square(half.each(lambda one, v: mode(one)(v))), axis=(1, 2))


def probes(n: int, kind: str) -> Callable[..., Any]:
    """Return the mean of |J v|² over n probes v with E v vᵀ = I."""

    def draw(key: Any, half: Map) -> Any:
        shape = (n, *half.at.shape)
        if kind == "signs":
            return jax.random.rademacher(key, shape, half.at.dtype)
        v = jax.random.normal(key, shape)
        if kind == "orthonormal":  # columns of a random rotation, times the root of the dimension
            v = jnp.moveaxis(jnp.linalg.qr(jnp.moveaxis(v, 0, 2))[0], 2, 0) * half.at.shape[1] ** 0.5
        return v

    def penalty(model: Any, half: Map, key: Any) -> Any:
        return jnp.mean(jax.vmap(lambda v: jnp.sum(jnp.square(half.push(v)), axis=1))(draw(key, half)), axis=0)

    return penalty


def differences(model: Any, half: Map, key: Any, sigma: float = 0.05) -> Any:
    """Return |f(x + σ v) - f(x)|² / σ², v normal: what denoising penalises."""
    moved = half.moved(half.at + sigma * jax.random.normal(key, half.at.shape))
    return jnp.sum(jnp.square(moved(moved.at) - half(half.at)), axis=1) / sigma**2


def term(model: Any, half: Map, key: Any) -> Any:
    """Return the term's exact way: closed form, or by layers."""
    x = half.at.reshape(-1, *model.shape)
    return Contractive()(passed(model, x, key), None)


WAYS = {
    "exact (the term's)": term,
    "jacrev": dense(jax.jacrev),
    "jacfwd": dense(jax.jacfwd),
    "1 probe, signs": probes(1, "signs"),
    "1 probe, normal": probes(1, "normal"),
    "4 probes, signs": probes(4, "signs"),
    "4 probes, orthonormal": probes(4, "orthonormal"),
    "differences, σ = 0.05": differences,
}


class PenaltyStep(NamedTuple):
    """A compiled value and gradient in the parameters, and what it took to compile."""

    call: Callable[..., Any]
    compile_s: float
    temp_mib: float


def compiled(way: Any, model: Any, x: Any, error: bool) -> PenaltyStep:
    """Return the mean penalty, or with `error` a whole loss (squared error + 0.1 penalty), of (parameters, key)."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params: Any, key: Any) -> Any:
        model = nnx.merge(graph, params, rest)
        penalty = jnp.mean(way(model, encoder(model, x), key)) if way else jnp.zeros(())
        if not error:
            return penalty
        return jnp.mean(jnp.sum(jnp.square(model.decode(model.encode(x).mean).mean - x), axis=1)) + 0.1 * penalty

    begin = time.perf_counter()
    program = jax.jit(jax.value_and_grad(loss)).lower(params, jax.random.key(0)).compile()
    memory = program.memory_analysis()
    return PenaltyStep(
        lambda key: jax.block_until_ready(program(params, key)),
        time.perf_counter() - begin,
        memory.temp_size_in_bytes / 2**20 if memory else float("nan"),
    )


@functools.lru_cache(maxsize=1)
def prepared(network: str, seed: int, batch: int) -> tuple[Any, Any, Any, PenaltyStep]:
    """Return a network at its start, examples, the exact penalty's value and gradient, and a plain step."""
    hidden, latent = NETWORKS[network]
    posterior = posteriors.PointPosterior(activation="identity" if hidden else "sigmoid")
    likelihood = NormalLikelihood()
    cfg = Model(
        encoder=Dense(hidden=hidden, activation="tanh"), latent=latent, posterior=posterior, likelihood=likelihood
    )
    model = Autoencoder(cfg, Sizes((VALUES,)), rngs=nnx.Rngs(seed))
    x = jax.random.uniform(jax.random.key(seed), (batch, VALUES))
    truth = flat(compiled(term, model, x, False).call(jax.random.key(0)))
    return model, x, truth, compiled(None, model, x, True)


def flat(found: Any) -> tuple[float, np.ndarray]:
    """Return a value, and its gradient as one vector."""
    value, slope = found
    return float(value), np.concatenate([np.asarray(a, np.float64).reshape(-1) for a in jax.tree.leaves(slope)])


def row(protocol: MethodsProtocol, seed: int, data: Data, network: str, way: str) -> dict[str, Any]:
    """Return a way's errors, and its step's time over that of a plain one, taken in turns."""
    model, x, (value, slope), plain = prepared(network, seed, protocol.batch)
    found = flat(compiled(WAYS[way], model, x, False).call(jax.random.key(1)))
    cosine = found[1] @ slope / (np.linalg.norm(found[1]) * np.linalg.norm(slope))
    step = compiled(WAYS[way], model, x, True)
    times: list[list[float]] = [[], []]
    for i in range(protocol.repeats + 1):
        for mine, one in zip(times, (plain, step), strict=True):
            begin = time.perf_counter()
            one.call(jax.random.key(i))
            mine.append(time.perf_counter() - begin)
    fast = [min(mine[1:]) for mine in times]
    return {
        "step_over_plain": fast[1] / fast[0],
        "gradient_cosine": cosine,
        "value_error_percent": 100 * abs(found[0] / value - 1),
        "compile_s": step.compile_s,
        "temp_mib": step.temp_mib,
    }


def ending(protocol: MethodsProtocol, seed: int, data: Data, penalty: Any) -> dict[str, Any]:
    """Return where training of a deep encoder on digits ends."""
    hidden = Dense(hidden=(128, 64), activation="tanh")
    model = Model(encoder=hidden, latent=16, posterior=posteriors.PointPosterior(), likelihood=NormalLikelihood())
    rest: Any = {"schedule": Cosine(), "lr": 2e-3, "epochs": protocol.epochs, "batch_size": 64}
    run = Config(model=model, objective=Denoising(level=0.0), terms=(penalty,) if penalty else (), **rest)
    found = trained(run, seed, data)
    error, norm = _ends(found, data.splits["test"].take(jnp.arange(len(data.splits["test"]))))
    return {"squared_error": error, "jacobian_squared": norm}


@jax.jit
def _ends(model: Any, x: Any) -> tuple[Any, Any]:
    done = passed(model, x, None)
    error = jnp.mean(jnp.sum(jnp.square(done.p.mean - x).reshape(len(x), -1), axis=1))
    return error, jnp.mean(Contractive()(done, None))


def pareto(path: Path, record: dict[str, Any], arrays: Any) -> bool:
    """Draw the gradient's cosine with the exact one against the time of a step, a panel for each encoder."""
    from matplotlib import colormaps

    networks = [n for n in NETWORKS if name(n, PROBE) in record["rows"]]
    with figure(path, 3.6 * len(networks) + 2.2, 3.8) as fig:
        for axes, network in zip(fig.subplots(1, len(networks), squeeze=False)[0], networks, strict=True):
            for i, way in enumerate(w for w in WAYS if name(network, w) in record["rows"]):
                x, y = (
                    interval_of(record, name(network, way), m).estimate for m in ("step_over_plain", "gradient_cosine")
                )
                axes.plot(x, y, "o", color=colormaps["tab10"](i), label=way if network == networks[0] else None)
            axes.set(title=f"{network}, 784 values", xscale="log", xlabel="step over a plain step")
            axes.set(ylabel="gradient cosine with exact" if network == networks[0] else None)
        fig.legend(loc="outside center right", fontsize=8)
        headline(fig, record)
    return True


name = lambda network, way: f"{network}: {way}"
ENDS = {"exact": Contractive(weight=0.03), "probe": Contractive(weight=0.03, way="probe"), "none": None}
end = lambda way: f"trained on digits: {way}"
of = lambda row, number: lambda rows: rows[row][number]
PROBE, TERM = "1 probe, signs", "exact (the term's)"
STUDY = Study(
    rows={name(n, w): Case(functools.partial(row, network=n, way=w)) for n in NETWORKS for w in WAYS}
    | {end(way): Case(functools.partial(ending, penalty=penalty)) for way, penalty in ENDS.items()},
    protocol=MethodsProtocol(),
    metric="step_over_plain",
    columns=(
        "gradient_cosine",
        "value_error_percent",
        "compile_s",
        "temp_mib",
        "squared_error",
        "jacobian_squared",
    ),
    claims=(
        Claim("1 layer: closed form, step over a plain one", of(name("1 layer", TERM), "step_over_plain"), high=1.05),
        Claim(
            "1 layer: jacrev's step over the closed form's",
            lambda r: r[name("1 layer", "jacrev")]["step_over_plain"] / r[name("1 layer", TERM)]["step_over_plain"],
            10,
        ),
        *(
            Claim(f"{n}: one probe, step over a plain one", of(name(n, PROBE), "step_over_plain"), high=1.6)
            for n in ("3 layers", "5 layers")
        ),
        Claim(
            "trained: squared error, one probe over exact",
            lambda r: r[end("probe")]["squared_error"] / r[end("exact")]["squared_error"],
            0.97,
            1.03,
            1,
        ),
        Claim(
            "trained: squared norm, one probe over exact",
            lambda r: r[end("probe")]["jacobian_squared"] / r[end("exact")]["jacobian_squared"],
            0.97,
            1.03,
            13.997 / 13.999,
        ),
        Claim(
            "trained: squared norm, none over exact",
            lambda r: r[end("none")]["jacobian_squared"] / r[end("exact")]["jacobian_squared"],
            1.2,
        ),
    ),
    figures=(pareto,),
    profiles={
        "smoke": Profile(
            1, {"batch": 4, "repeats": 1, "epochs": 1}, (name("3 layers", PROBE), end("probe")), differs="1 epoch"
        ),
        "cpu": Profile(3),
        "paper": Profile(5, {"repeats": 30, "batch": 128}),
    },
)
