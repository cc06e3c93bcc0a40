"""Training step of a convolutional VAE: XLA's native convolution against patches times a matrix.

Command: python -m experiments convolution --kernel 3 --rounds 20
Cost: 2 minutes on 2 quiet cores; random images, no files.

Workload: 28 x 28 images, convolutions with 32 and 64 channels at stride 2, latent 16, mirrored decoder,
Bernoulli, batch 128, Adam, float32; the kernel is 3 x 3 as in Keras's VAE example. "loop" runs a chunk of steps
inside XLA, "step" one jitted step per call. Writes experiments/results/convolution.json.
"""

import argparse
import time
from typing import Any

from experiments.benchmarks.measuring import take_turns, write
from experiments.benchmarks.throughput import images, training
from experiments.running import store
from models import Conv, Model
from train import Config


def measure(kernel: int = 3, rounds: int = 20, steps: int = 3) -> dict[str, dict[str, float]]:
    """Return per variant, "native step" and so on, the times of `take_turns`, and the gain over "native step"."""
    config = Config(model=Model(encoder=Conv(channels=(32, 64), kernel=kernel, stride=2), latent=16))
    inputs = images(1024)
    variants = {
        f"{name} {dispatch}": (training(config, dispatch, inputs, name), 1 if name == "native" else steps)
        for name in ("native", "patches")
        for dispatch in ("step", "loop")
    }
    times = take_turns(variants, rounds)
    base = times["native step"]["fastest_ms"]
    return {name: row | {"times_native_step": base / row["fastest_ms"]} for name, row in times.items()}


def line(name: str, row: dict[str, float]) -> str:
    """Return a variant's times in words."""
    return (
        f"{name:<14} {row['fastest_ms']:8.2f} ms fastest, {row['median_ms']:8.2f} median, {row['cpu_ms']:8.2f} "
        f"processor; {128e3 / row['fastest_ms']:,.0f} images/s, {row['times_native_step']:.2f} x native step"
    )


def main(argv: list[str]) -> None:
    """Measure, print, write the result file, which keeps what it has of other kernels."""
    parser = argparse.ArgumentParser("python -m experiments convolution", description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", type=int, default=3, help="height and width of the kernels (default 3)")
    parser.add_argument("--rounds", type=int, default=20, help="turns of every variant (default 20)")
    options, begin = parser.parse_args(argv), time.monotonic()
    path = store.RESULTS / "convolution.json"
    rows = measure(options.kernel, options.rounds)
    earlier: dict[str, Any] = (store.read_result(path) or {}).get("measured", {})
    lines = [f"kernel {options.kernel}, {line(name, row)}" for name, row in rows.items()]
    write(path, __file__, argv, lines, earlier | {f"kernel {options.kernel}": rows}, begin)
