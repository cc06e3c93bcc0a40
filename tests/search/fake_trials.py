"""Cheap trial functions for the tests of sweeps: closed-form metrics, and a log of who began and ended what."""

import math
import os
import signal
import time
from pathlib import Path

from experiments.search.problem import SweepProblem
from models.config import config, setting, static


@config
class Smooth:
    beta: float = setting(1.0, above=0.0)


@config
class Rough:
    level: float = 0.3
    kind: str = "gaussian"


@config
class Net:
    hidden: tuple[int, ...] = (8,)
    latent: int = setting(2, at_least=1)
    dropout: float = static(0.0)


@config
class FakeConfig:
    lr: float = setting(1e-3, above=0.0)
    net: Net = Net()
    objective: Smooth | Rough = Smooth()
    epochs: int = setting(3, at_least=1)
    seed: int = setting(0, traced=True)
    shuffle: bool = True
    limit: float | None = None


def metrics(cfg: FakeConfig, fold=None) -> dict[str, float]:
    """A bowl in log lr with a floor that latent lowers, a little noise from the seed, and a rate that rises."""
    noise = math.sin(12.9898 * (cfg.seed + 1) + 78.233 * (fold[0] if fold else 0)) * 0.01
    weight = cfg.objective.beta if isinstance(cfg.objective, Smooth) else 2.0 + cfg.objective.level
    loss = (math.log10(cfg.lr) + 3) ** 2 + 1 / cfg.net.latent + 0.1 * weight + noise + 1 / cfg.epochs
    return {"loss": loss, "rate": 10 / weight + noise, "accuracy": -loss}


def _log(word: str, cfg: FakeConfig, fold) -> None:
    if folder := os.environ.get("FAKE_TRIALS_LOG"):
        line = f"{word} {cfg!r} {fold}\n".encode()
        fd = os.open(Path(folder) / "calls.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(fd, line)
        os.close(fd)


def run_group(configs, fold, width):
    rows = []
    for cfg in configs:
        _log("begin", cfg, fold)
        time.sleep(float(os.environ.get("FAKE_TRIALS_SECONDS", "0")))
        rows.append(metrics(cfg, fold))
        _log("end", cfg, fold)
    return rows


def run_rough(configs, fold, width):
    """lr above 0.1 raises, epochs 13 kills the process, latent 7 diverges."""
    for cfg in configs:
        if cfg.epochs == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        if cfg.lr > 0.1:
            raise FloatingPointError(f"lr {cfg.lr:g} is too large\nand more lines")
    rows = [metrics(cfg, fold) for cfg in configs]
    return [{**r, "loss": math.nan} if c.net.latent == 7 else r for c, r in zip(configs, rows, strict=True)]


problem = SweepProblem(FakeConfig(), run_group)
rough = SweepProblem(FakeConfig(), run_rough)
not_a_problem = 3
