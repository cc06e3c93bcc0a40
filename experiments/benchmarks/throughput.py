"""Speed and memory of training on this machine, as ratios to the floor of its own matrix products.

Command: python -m experiments throughput --rounds 15
Cost: 5 minutes on 2 quiet cores; random images, no files.

Goal: a step costs at most 1.2 times its matrix products. Workload: VAE 784-400-20, Bernoulli likelihood,
batch 128, Adam 1e-3, 60,000 uint8 images, float32; and the convolutional VAE (32 and 64 channels, 3 x 3,
stride 2, latent 16). `loop` runs a chunk of steps inside XLA, `step` one jitted step per call, `floor` the dense
VAE's eleven matrix products alone, in both forms (the faster one counts). All variants take turns in one process;
the fastest and the median step are reported, and processor time, which a busy machine inflates less. Last, one
fresh process is timed from its start to the end of five epochs. Writes experiments/results/throughput.json.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import data
from experiments.benchmarks.measuring import take_turns, write
from experiments.running import store
from models import Conv, Dense, Model
from models.config import to_dict
from models.networks.layers.convolution import convolution_implementation
from train import CORE, Config, init
from training import host
from training.examples import Examples
from training.inputs import Inputs

DENSE = Config(model=Model(encoder=Dense(hidden=(400,)), latent=20), epochs=5)
CONV = Config(model=Model(encoder=Conv(channels=(32, 64), kernel=3, stride=2), latent=16), epochs=5)
SHAPES = ((128, 784), (784, 400), (400, 40), (128, 20), (20, 400), (400, 784))  # x, W1, W2, z, W3, W4


def images(n: int = 60_000) -> Inputs:
    """Return `n` random images as a data set: no step's time depends on the pixels."""
    x = np.random.default_rng(0).integers(0, 256, (n, 28, 28, 1), dtype=np.uint8)
    dataset = data.Dataset("noise", "generated", {"train": data.Split(x)}, (28, 28, 1), (0, 255), None, {})
    return Inputs({"train": Examples(jnp.asarray(x), (0.0, 255.0))}, dataset)


def products(x: jax.Array, w1: jax.Array, w2: jax.Array, z: jax.Array, w3: jax.Array, w4: jax.Array) -> tuple:
    """Return what the eleven products of a dense VAE's step give: four forward, four for weights, three back."""
    h1 = x @ w1
    mean, h2 = h1 @ w2, z @ w3
    logits = h2 @ w4
    d2 = logits @ w4.T
    dz, d1 = d2 @ w3.T, mean @ w2.T
    return dz, x.T @ d1, h1.T @ mean, z.T @ d2, h2.T @ logits


def floor(dispatch: str) -> Callable[[int], None]:
    """Return a function that runs the products a number of times, as a loop inside XLA or one call each."""
    keys = jax.random.split(jax.random.key(0), len(SHAPES))
    arrays = tuple(0.05 * jax.random.normal(k, s) for k, s in zip(keys, SHAPES, strict=True))

    def body(_: Any, carry: tuple) -> tuple:
        x, w1, w2, z, w3, w4 = carry[0]
        # x and z depend on the last round, so that no product can leave the loop
        tick = 1e-20 * carry[1][0][:1, :1]
        return (x + tick, w1, w2, z + tick, w3, w4), products(x, w1, w2, z, w3, w4)

    looped = jax.jit(lambda a, n: jax.lax.fori_loop(0, n, body, (a, jax.tree.map(jnp.zeros_like, products(*a))))[1])
    single = jax.jit(products)

    def run(steps: int) -> None:
        if dispatch == "loop":
            jax.block_until_ready(looped(arrays, steps))
        else:
            for _ in range(steps):
                out = single(*arrays)
            jax.block_until_ready(out)

    return run


def training(config: Config, dispatch: str, inputs: Inputs, implementation: str = "auto") -> Callable[[int], None]:
    """Return a function that advances a run by a number of steps, as the host loop does."""
    key = jax.random.key(0)
    pieces = host.programs(CORE, config, key, inputs, dispatch)
    state, order = init(config, key, inputs.splits["train"]), pieces.order(0)

    def run(steps: int) -> None:
        nonlocal state
        with convolution_implementation(implementation):
            state = pieces.advance(state, order, steps)
        jax.block_until_ready(state.step)

    return run


def five_epochs() -> None:
    """Train the dense workload for five epochs in chunks; the child process of `from_start`."""
    inputs, key = images(), jax.random.key(0)
    make = jax.jit(lambda c: init(c, key, host.StandIn(60_000, (28, 28, 1))))
    state = make(DENSE)
    dispatch = host.choose_dispatch(CORE, DENSE, key, state, inputs)
    pieces = host.programs(CORE, DENSE, key, inputs, dispatch)
    for epoch in range(5):
        state = pieces.advance(state, pieces.order(epoch), pieces.per_epoch)
    print(dispatch, float(state.sums["loss"]) / pieces.per_epoch)


def from_start() -> dict[str, Any]:
    """Return the seconds from process start to five epochs done, and the peak memory of that process in MiB."""
    command = [sys.executable, "-m", "experiments", "throughput", "--five-epochs"]
    subprocess.run(command, check=True, capture_output=True)  # the first one measures the dispatch and remembers it
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"seconds": seconds, "peak_rss_mib": peak}


def main(argv: list[str]) -> None:
    """Measure, print, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--five-epochs", action="store_true", help=argparse.SUPPRESS)
    options, begin = parser.parse_args(argv), time.monotonic()
    if options.five_epochs:
        return five_epochs()
    inputs = images()
    variants = {f"floor_{d}": (floor(d), 20) for d in ("loop", "step")}
    variants |= {f"dense_{d}": (training(DENSE, d, inputs), 20) for d in ("loop", "step")}
    variants |= {f"conv_{d}": (training(CONV, d, inputs), 4) for d in ("loop", "step")}
    variants["conv_native_step"] = (training(CONV, "step", inputs, "native"), 2)
    times = take_turns(variants, options.rounds)
    lines = []
    for which in ("fastest_ms", "median_ms", "cpu_ms"):
        best = {part: min(t[which] for n, t in times.items() if n.startswith(part)) for part in ("floor", "dense")}
        conv = min(times["conv_loop"][which], times["conv_step"][which])
        lines.append(
            f"{which:>10}: dense {128e3 / best['dense']:,.0f} images/s, {best['dense'] / best['floor']:.2f} x floor "
            f"({128e3 / best['floor']:,.0f} images/s); conv {128e3 / conv:,.0f} images/s, "
            f"{times['conv_native_step'][which] / conv:.2f} x faster than native"
        )
    lines += [
        f"{name:>18}: " + ", ".join(f"{k.replace('_ms', '')} {v:.2f} ms" for k, v in row.items())
        for name, row in times.items()
    ]
    whole = from_start()
    lines.append(f"process start to five epochs: {whole['seconds']:.1f} s, peak {whole['peak_rss_mib']:,.0f} MiB")
    configs = {"dense": to_dict(DENSE), "conv": to_dict(CONV)}
    path = store.RESULTS / "throughput.json"
    write(path, __file__, argv, lines, {"times": times, "five_epochs": whole}, begin, config=configs)
