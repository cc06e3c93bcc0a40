"""Training step of a convolutional VAE: XLA's native convolution against patches times a matrix.

Command: python -m experiments convolution --kernel 3 --rounds 20
Cost: 2 minutes on 2 quiet cores; random images, no files.

Workload: 28 x 28 images, convolutions with 32 and 64 channels at stride 2, latent 16, mirrored decoder,
Bernoulli, batch 128, Adam, float32; the kernel is 3 x 3 as in Keras's VAE example. A step is `train.train_step`
on a batch on the device; "loop" runs several inside one `fori_loop` of traced length. The variants take turns
in one process and each reports its fastest step (and the median), in wall and in processor time: the second
says what a busy machine hides from the first. Writes experiments/results/convolution.json.
"""

import argparse
import functools
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models import Conv, Model
from models.networks.layers.convolution import convolution_implementation
from train import Config, TrainState, init, make_optimizer, train_step
from training.examples import Examples
from training.store.environment import environment

RESULTS = Path(__file__).resolve().parent.parent / "results" / "convolution.json"
Run = Callable[[int], None]
VARIANTS = [(name, place) for name in ("native", "patches") for place in ("single", "loop")]


def workload(kernel: int, n: int = 1024) -> tuple[Config, Examples]:
    """Return the config and `n` random binary images: no step's time depends on the pixels."""
    encoder = Conv(channels=(32, 64), kernel=kernel, stride=2)  # type: ignore[call-arg]
    config = Config(model=Model(encoder=encoder, latent=16), batch_size=128)  # type: ignore[call-arg]
    pixels = np.random.default_rng(0).integers(0, 2, (n, 28, 28, 1), dtype=np.uint8)
    return config, Examples(jnp.asarray(pixels), (0.0, 1.0))


def variant(implementation: str, place: str, config: Config, examples: Examples) -> Run:
    """Return a compiled function that runs a number of training steps, waiting for the last."""
    key = jax.random.key(0)
    optimizer = make_optimizer(config, len(examples))
    batch = examples.take(jnp.arange(config.batch_size))

    @functools.partial(jax.jit, donate_argnums=0)
    def single(state: TrainState, batch: jax.Array) -> TrainState:
        return train_step(state, config, optimizer, key, batch)

    @functools.partial(jax.jit, donate_argnums=0)
    def loop(state: TrainState, batch: jax.Array, count: int) -> TrainState:
        body = lambda _, state: train_step(state, config, optimizer, key, batch)
        return jax.lax.fori_loop(0, count, body, state)

    state = init(config, key, examples)

    def run(steps: int) -> None:
        nonlocal state
        with convolution_implementation(implementation):
            if place == "loop":
                state = loop(state, batch, steps)
            else:
                for _ in range(steps):
                    state = single(state, batch)
            jax.block_until_ready(state.step)

    run(1)
    return run


def measure(kernel: int = 3, rounds: int = 20, steps: int = 3) -> dict[str, dict[str, float]]:
    """Return per variant: ms per step of wall time (fastest, median) and of processor time (fastest)."""
    config, examples = workload(kernel)
    runs = {pair: variant(*pair, config, examples) for pair in VARIANTS}
    wall: dict[Any, list[float]] = {pair: [] for pair in VARIANTS}
    processor: dict[Any, list[float]] = {pair: [] for pair in VARIANTS}
    for _ in range(rounds):
        for pair, run in runs.items():
            count = 1 if pair == ("native", "loop") else steps
            start, start_cpu = time.perf_counter(), time.process_time()
            run(count)
            wall[pair].append((time.perf_counter() - start) / count * 1e3)
            processor[pair].append((time.process_time() - start_cpu) / count * 1e3)
    return {
        " ".join(pair): {
            "ms_fastest": min(wall[pair]),
            "ms_median": float(np.median(wall[pair])),
            "processor_ms_fastest": min(processor[pair]),
            "images_per_s": config.batch_size / min(wall[pair]) * 1e3,
        }
        for pair in VARIANTS
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and write it with its command and versions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", type=int, default=3, help="height and width of the kernels (default 3)")
    parser.add_argument("--rounds", type=int, default=20, help="turns of every variant (default 20)")
    options = parser.parse_args(argv)
    rows = measure(options.kernel, options.rounds)
    base = rows["native single"]["ms_fastest"]
    print(f"{'ms per step of 128':>20} {'fastest':>9} {'median':>9} {'processor':>10} {'images/s':>9} {'ratio':>6}")
    for name, row in rows.items():
        row["times_native_single"] = base / row["ms_fastest"]
        print("{:>20} {:9.2f} {:9.2f} {:10.2f} {:9.0f} {:6.2f}".format(name, *row.values()))
    command = shlex.join(["python", "-m", "experiments", "convolution", *(sys.argv[1:] if argv is None else argv)])
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    old[f"kernel {options.kernel}"] = {"command": command, "rows": rows, "environment": environment()}
    RESULTS.write_text(json.dumps(old, indent=1) + "\n")
