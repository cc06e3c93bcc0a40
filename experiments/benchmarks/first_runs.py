"""The README's two runs on real MNIST: a dense autoencoder and a variational one, by the command line itself.

Claim: A VAE 784-500-20 on binarised MNIST (batch 128, Adam 1e-3) has a test negative ELBO of at most 104 nats after
10 epochs, the figure that the README of Flax's VAE example gives for it.
Command: python -m experiments first_runs --data-dir DATA
Cost: 2 minutes on 2 cores.

Writes experiments/results/first_runs.json: both commands, complete configs, data checksums, metrics, seconds.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks.measuring import write
from experiments.running import store

RUNS = {
    "VAE 784-500-20": "--dataset binarized_mnist --model.encoder.hidden 500 --model.latent 20 --epochs 10",
    "autoencoder 784-512-256-128-64-32": (
        "--dataset mnist --objective reconstruction --objective.error cross_entropy --model.posterior point "
        "--model.encoder.hidden 512 256 128 64 --model.latent 32 --epochs 10"
    ),
}
SHOWN = ("negative_elbo_nats", "bits_per_dim", "mse", "rmse", "mae")


def one(options: str, data_dir: str) -> dict[str, Any]:
    """Return config, environment and summary of one run of `train.py` in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        command = [sys.executable, "train.py", *shlex.split(options), "--data-dir", data_dir, "--run-dir", str(folder)]
        subprocess.run(command, check=True, cwd=store.ROOT)
        read = lambda name: json.loads((folder / name).read_text().replace(data_dir, "DIR"))
        config = {name: value for name, value in read("config.json").items() if name != "data_dir"}
        return {"config": config, "environment": read("env.json"), "summary": read("summary.json")}


def line(name: str, options: str, result: dict[str, Any]) -> str:
    """Return a run in words: its command, then its test metrics."""
    test = result["summary"]["test"]
    numbers = ", ".join(f"{metric} {test[metric]:.4g}" for metric in SHOWN if metric in test)
    return f"{name}: python train.py {options}\n    test: {numbers}; {result['summary']['seconds']:.0f} s"


def main(argv: list[str]) -> None:
    """Run both, print, write the result file."""
    parser = argparse.ArgumentParser("python -m experiments first_runs", description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", required=True, help="folder with mnist/ and binarized_mnist/")
    options = parser.parse_args(argv)
    begin = time.monotonic()
    runs = {name: one(text, str(Path(options.data_dir).resolve())) for name, text in RUNS.items()}
    lines = [line(name, RUNS[name], result) for name, result in runs.items()]
    write(store.RESULTS / "first_runs.json", __file__, ["--data-dir", "DIR"], lines, runs, begin)
