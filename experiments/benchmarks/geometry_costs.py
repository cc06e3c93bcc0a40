"""What the geometry of an autoencoder costs: penalties beside a plain training step, the report card, geodesics.

Claim: The closed form of the contractive penalty takes at most 5% more than a plain step (784 -> 1000) and is at least
500 times faster than reverse mode example by example; one probe takes at most 1.6 times a plain step of a deep encoder;
the report card of 784-512-256-128-64-16 on 10,000 images takes at most 60 s on 2 cores, in bounded memory; 64 geodesics
take at most 10 s.
Command: python -m experiments geometry_costs
Cost: 2 minutes on 2 quiet cores; random images, untrained networks.

Steps are those of `train.py`, batch 128, in turns; ratios are medians over the turns of the ratio within a
turn. Processor seconds stand beside those of the clock, which other jobs inflate. Writes
experiments/results/geometry_costs.json.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import train
from experiments.benchmarks.measuring import write
from experiments.running import store
from experiments.tables.geometry.penalty_methods import dense, term
from models import Autoencoder, Dense, Model, Sizes, posteriors
from models.likelihoods import NormalLikelihood
from models.metrics import report_card, travel
from models.objectives import Reconstruction
from models.terms import Contractive
from models.terms.geometry.halves import encoder
from training.examples import Examples

VALUES, BATCH = 784, 128
DEEP = (512, 256, 128, 64)
PARTS = ("penalties", "card", "geodesics")


def model_of(hidden: tuple[int, ...], latent: int) -> Model:
    """Return the config of an autoencoder; of one layer it has a sigmoid code, as contractive autoencoders have."""
    posterior = posteriors.PointPosterior(activation="identity" if hidden else "sigmoid")
    return Model(Dense(hidden, "tanh"), latent=latent, posterior=posterior, likelihood=NormalLikelihood())


def network(model: Model) -> Autoencoder:
    """Return an untrained autoencoder of 784 values."""
    return Autoencoder(model, Sizes((VALUES,)), rngs=nnx.Rngs(0))


def step_of(model: Model, term: Contractive | None) -> Callable[[], Any]:
    """Return a compiled step of training (`train.train_step`), with or without a term, that waits for its end."""
    config = train.Config(model=model, objective=Reconstruction(), terms=(term,) if term else (), batch_size=BATCH)
    examples = Examples(jax.random.uniform(jax.random.key(1), (BATCH, VALUES)))
    optimizer, key = train.make_optimizer(config, BATCH), jax.random.key(0)
    held = [train.init(config, key, examples)]
    batch = examples.batch(jnp.arange(BATCH))
    program = jax.jit(lambda state, batch: train.train_step(state, config, optimizer, key, batch))

    def run() -> None:
        held[:] = [jax.block_until_ready(program(held[0], batch))]

    return run


def ratios(runs: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Return for each run the median over turns of its time over the first one's, by the clock and of all processors,
    and the first one's fastest, ms.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(turns + 1):
        for name, run in runs.items():
            begin, used = time.perf_counter(), time.process_time()
            run()
            times[name].append((time.perf_counter() - begin, time.process_time() - used))
    plain = np.array(next(iter(times.values()))[1:])
    middle = {name: np.median(np.array(t[1:]) / plain, axis=0) for name, t in times.items()}
    out = {f"{name}_over_plain": float(m[0]) for name, m in middle.items()}
    out |= {f"{name}_over_plain_processor": float(m[1]) for name, m in middle.items()}
    return out | {"plain_fastest_ms": 1e3 * float(plain[:, 0].min())}


def penalties(turns: int) -> dict[str, Any]:
    """Return what penalties cost beside a plain step, and the closed form's value beside reverse mode's."""
    closed, probe = Contractive(), Contractive(way="probe")
    one, deep = model_of((), 1000), model_of(DEEP, 32)
    steps = {"plain": step_of(one, None), "closed_form": step_of(one, closed), "again": step_of(one, None)}
    out = {"one_layer": ratios(steps, turns)}
    out["deep"] = ratios({"plain": step_of(deep, None), "one_probe": step_of(deep, probe)}, turns)
    wide, few = network(one), jax.random.uniform(jax.random.key(1), (BATCH, VALUES))
    value = lambda way: jax.jit(lambda m: jnp.mean(way(m, encoder(m, few), None)))
    formula, reverse = value(term), value(dense(jax.jacrev))
    runs = {
        "plain": lambda: jax.block_until_ready(formula(wide)),
        "jacrev": lambda: jax.block_until_ready(reverse(wide)),
    }
    return out | {"value": {"jacrev_over_closed_form": ratios(runs, max(3, turns // 10))["jacrev_over_plain"]}}


def timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return what a call gives, and its seconds: by the clock, and of all processors."""
    begin, used = time.perf_counter(), time.process_time()
    found = call()
    return found, {"seconds": time.perf_counter() - begin, "processor_seconds": time.process_time() - used}


def peak_mib() -> float:
    """Return the most memory that this process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def card(images: int) -> dict[str, float]:
    """Return the cost of the report card, compilation included, and the memory that it added to the peak."""
    model, before = network(model_of(DEEP, 16)), peak_mib()
    x = np.random.default_rng(0).random((images, VALUES), np.float32)
    found, cost = timed(lambda: report_card(model, x, jax.random.key(0)))
    return cost | {"images": found["examples"], "peak_mib": peak_mib(), "peak_before_mib": before}


def geodesics(pairs: int = 64) -> dict[str, float]:
    """Return the cost of one call for 64 geodesics in a code of two units, with and without compilation."""
    model = network(model_of((256, 128), 2))
    ends = jax.random.normal(jax.random.key(2), (2, pairs, 2))
    first, cost = timed(lambda: jax.block_until_ready(travel.geodesics(travel.surface(model), *ends)))
    again = timed(lambda: jax.block_until_ready(travel.geodesics(travel.surface(model), *ends)))[1]
    return {"first_seconds": cost["seconds"]} | again | {"pairs": float(len(first.length))}


def main(argv: list[str]) -> None:
    """Measure, print, write the result file."""
    parser = argparse.ArgumentParser("python -m experiments geometry_costs", description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=40, help="of steps (40)")
    parser.add_argument("--images", type=int, default=10_000, help="of the report card (10,000)")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, help="what is measured; a part writes no file"
    )
    options = parser.parse_args(argv)
    begin = time.monotonic()
    make = {"card": lambda: card(options.images), "penalties": lambda: penalties(options.turns), "geodesics": geodesics}
    found: dict[str, Any] = {}
    for part in ("card", "penalties", "geodesics"):  # memory's peak first
        if part in options.only:
            found[part] = make[part]()
    lines = [f"{part}: {', '.join(f'{k} {v:.4g}' for k, v in flat(found[part]).items())}" for part in found]
    if set(options.only) != set(PARTS):
        print(*lines, sep="\n")
        return
    write(store.RESULTS / "geometry_costs.json", __file__, argv, lines, found, begin)


def flat(numbers: dict[str, Any]) -> dict[str, float]:
    """Return nested numbers as one level, names joined by a space."""
    out: dict[str, float] = {}
    for name, value in numbers.items():
        out |= {f"{name} {k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return out
