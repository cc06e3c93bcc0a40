"""Noise of estimates of a bound's gradient by the encoder: score, reparameterised, importance-weighted, DReG.

Claim: The doubly reparameterised gradient of the bound of 64 draws has at most a fifth of the plain one's variance; the
    plain one's signal-to-noise ratio falls with the draws, where DReG's does not fall so far.
Source: Rainforth et al. 2018, Tighter variational bounds are not necessarily better (signal-to-noise ratio of the
    inference network); Tucker et al. 2019 (DReG); Roeder et al. 2017 (STL); Mnih & Rezende 2016 (leave one out).
Command: python -m experiments gradient_estimators
Cost: 9 rows, 3 seeds, binarised digits, 64-64-8; 100 gradients of 20 examples at each of three stages of training.
Expected: total variance after 1,000 steps: score 1.0e4, leave one out of 4 draws 6.7, reparameterised 25, STL 3.2;
    bound of 1, 8, 64 draws 25, 4.7, 1.05, DReG of 8 and 64 0.23 and 0.077 (a prototype of this project, its own scale).
Caveats: STL of more than one draw is biased, which a variance does not show. The ratio is to the mean of DReG's
    estimates of the same bound. A bound of one draw is the reparameterised row.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.reporting.plots import headline
from experiments.running.claims import Claim
from experiments.running.gradients import Estimator, GradientNoise
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained
from models import Dense, Model
from models.objectives import ELBO
from train import Config
from training.examples import Binarisation
from training.pictures.drawing import figure


class GradientsProtocol(NamedTuple):
    """What profiles change."""

    dataset: str = "digits"
    binarise: Binarisation = "static"
    stages: tuple[int, ...] = (1, 10, 100)
    """epochs after which noise is measured; the last gives the metrics without a suffix"""
    keys: int = 100
    batch: int = 20
    hidden: int = 64


@functools.cache
def measuring(measure: GradientNoise, config: Config) -> Any:
    """Return the compiled measure: models of all seeds and stages share it."""
    return jax.jit(lambda model, examples, key: measure(config, model, examples, key))


def row(protocol: GradientsProtocol, seed: int, data: Data, estimator: Estimator, draws: int) -> dict[str, Any]:
    """Return the noise of an estimator at every stage of a training, the numbers of the last without a suffix."""
    measure = GradientNoise(estimator, draws, batch=protocol.batch, keys=protocol.keys)
    model = Model(encoder=Dense(hidden=(protocol.hidden,)), latent=8)
    config = Config(dataset=protocol.dataset, binarise=protocol.binarise, model=model, objective=ELBO(), batch_size=100)
    out: dict[str, Any] = {}
    for epochs in protocol.stages:
        at_stage = trained(dataclasses.replace(config, epochs=epochs), seed, data)
        found = measuring(measure, config)(at_stage, data.splits["test"], jax.random.key(seed))
        out |= {f"{name}_after_{epochs}": value for name, value in found.items()} | dict(found)
    return out


def signal_against_draws(path: Path, record: dict[str, Any], arrays: Any) -> bool:
    """Draw signal-to-noise ratio and variance against the draws, for every estimator (mean over seeds, their range)."""
    with figure(path, 8.4, 4.0) as fig:
        both = fig.subplots(1, 2)
        for kind in dict.fromkeys(kind for kind, _ in ROWS.values()):
            names = [name for name, (own, _) in ROWS.items() if own == kind and name in record["rows"]]
            if not names:
                continue
            draws = [ROWS[name][1] for name in names]
            for axes, metric in zip(both, ("snr", "gradient_variance"), strict=True):
                values = np.array([record["rows"][name]["metrics"][metric] for name in names])
                gaps = np.abs(values.mean(1) - np.array([values.min(1), values.max(1)]))
                axes.errorbar(draws, values.mean(1), gaps, marker="o", capsize=3, label=WORDS[kind])
        for axes, word in zip(both, ("signal-to-noise ratio", "variance of the gradient, nats²"), strict=True):
            axes.set(xscale="log", yscale="log", xlabel="draws", ylabel=word)
            axes.set_xticks([1, 4, 8, 64], ["1", "4", "8", "64"])
        fig.legend(*both[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        headline(fig, record)
    return True


WORDS = {
    "score": "score",
    "leave_one_out": "leave one out",
    "plain": "reparameterised",
    "stl": "STL",
    "dreg": "DReG",
}
ROWS: dict[str, tuple[Estimator, int]] = {
    "score": ("score", 4),
    "leave one out": ("leave_one_out", 4),
    "reparameterised, K = 1": ("plain", 1),
    "bound, K = 8": ("plain", 8),
    "bound, K = 64": ("plain", 64),
    "STL, K = 1": ("stl", 1),
    "STL, K = 64": ("stl", 64),
    "DReG, K = 8": ("dreg", 8),
    "DReG, K = 64": ("dreg", 64),
}
ratio = lambda name, top, bottom: lambda rows: rows[top][name] / rows[bottom][name]
STUDY = Study(
    rows={name: Case(functools.partial(row, estimator=kind, draws=draws)) for name, (kind, draws) in ROWS.items()},
    protocol=GradientsProtocol(),
    metric="gradient_variance",
    columns=("snr", "noise_to_signal", "snr_after_1", "snr_after_10", "gradient_variance_after_1"),
    claims=(
        Claim(
            "variance, DReG over plain, K = 64",
            ratio("gradient_variance", "DReG, K = 64", "bound, K = 64"),
            high=0.2,
            expected=0.077 / 1.05,
        ),
        Claim(
            "signal-to-noise of the plain bound, K = 64 over K = 1",
            ratio("snr", "bound, K = 64", "reparameterised, K = 1"),
            high=1.0,
            expected=0.109 / 0.165,
        ),
        Claim(
            "signal-to-noise at K = 64, DReG over plain",
            ratio("snr", "DReG, K = 64", "bound, K = 64"),
            low=1.0,
        ),
        Claim(
            "variance, STL over reparameterised, K = 1",
            ratio("gradient_variance", "STL, K = 1", "reparameterised, K = 1"),
            high=1.0,
            expected=3.2 / 24.9,
        ),
    ),
    figures=(signal_against_draws,),
    profiles={
        "smoke": Profile(1, {"stages": (1,), "keys": 4, "hidden": 8}, ("STL, K = 1", "DReG, K = 8"), differs="1 epoch"),
        "cpu": Profile(3),
        "paper": Profile(10, {"dataset": "mnist", "keys": 1_000, "hidden": 200}),
    },
)
