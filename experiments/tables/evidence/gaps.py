"""Inference gaps: what a bound loses by its encoder, and what by its family of posteriors.

Claim: A small encoder loses more than the family of independent normals does, a large one less than a small one; and
    all lose more on test examples than on those they were trained on.
Source: Cremer et al. 2018, Inference Suboptimality in Variational Autoencoders, sections 3 and 5.1 (amortisation and
    approximation gap; figures there are of MNIST and Fashion-MNIST, larger networks and more training).
Command: python -m experiments gaps
Cost: 3 rows, 3 seeds, binarised digits, code of 8; 200 examples of each split, each with a posterior of its own.
Expected: encoder of 16, 64, 256 units: amortisation gap on training examples 0.46, 0.32, 0.31, on test ones 0.56, 0.44,
    0.43, approximation gap 0.31 to 0.41 nats (a prototype of this project).
Caveats: log p(x) is itself a bound, of 5,000 importance samples from the optimised posterior; what it misses counts as
    no gap. The optimised posterior is one local optimum, found from the encoder's by 500 steps.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from experiments.reporting.plots import headline
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import shown, trained
from models import Dense, Model
from models.autoencoder import Autoencoder
from models.distributions import Normal
from models.objectives import ELBO
from train import Config
from training.examples import Binarisation
from training.pictures.drawing import TRAIN, VALIDATION, figure


class GapsProtocol(NamedTuple):
    """What profiles change."""

    dataset: str = "digits"
    binarise: Binarisation = "static"
    epochs: int = 200
    latent: int = 8
    examples: int = 200
    """of each split, whose posteriors are optimised one by one"""
    steps: int = 500
    """of that optimisation"""
    draws: int = 5_000
    """importance samples of log p(x)"""


def bound(model: Autoencoder, q: Any, x: Array, key: Array, draws: int) -> Float[Array, " batch"]:
    """Return E_q log p(x|z) - KL(q || p(z)) by so many draws, nats; the KL is exact."""
    z = jax.vmap(q.sample)(jax.random.split(key, draws))
    many = jnp.tile(x, (draws, *(1,) * (x.ndim - 1)))
    log_x = model.decode(z.reshape(-1, z.shape[-1])).log_prob(many).reshape(draws, -1)
    return jnp.mean(log_x, axis=0) - q.kl(model.prior())


@functools.partial(jax.jit, static_argnames=("steps", "draws"))
def gaps(model: Autoencoder, x: Array, key: Array, steps: int, draws: int) -> dict[str, Array]:
    """Return amortisation and approximation gap of a batch: L[q*] - L[q], log p(x) - L[q*], nats.

    q is the encoder's, q* the best independent normal, found by Adam from q by 20 draws at a step.
    """
    k_fit, k_bound, k_weight = jax.random.split(key, 3)
    own = model.encode(x)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, steps))

    def step(carry: Any, i: Array) -> Any:
        numbers, state = carry
        loss = lambda n: -jnp.sum(bound(model, Normal(*n), x, jax.random.fold_in(k_fit, i), 20))
        updates, state = optimizer.update(jax.grad(loss)(numbers), state)
        return (optax.apply_updates(numbers, updates), state), None

    start = (own.mean, own.log_std)
    (best, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), jnp.arange(steps))
    local = Normal(*best)

    def weigh(total: Array, i: Array) -> Any:
        z = local.sample(jax.random.fold_in(k_weight, i))
        log_w = model.decode(z).log_prob(x) + model.prior().log_prob(z) - local.log_prob(z)
        return jnp.logaddexp(total, log_w), None

    total, _ = jax.lax.scan(weigh, jnp.full(len(x), -jnp.inf), jnp.arange(draws))
    log_p = total - jnp.log(float(draws))
    given, optimal = (bound(model, q, x, k_bound, 200) for q in (own, local))
    return {"amortisation": optimal - given, "approximation": log_p - optimal, "log_likelihood": log_p}


def row(protocol: GapsProtocol, seed: int, data: Data, hidden: int) -> dict[str, Any]:
    """Return the gaps of a model with an encoder of so many units, mean over examples of both splits, nats."""
    model = Model(encoder=Dense(hidden=(hidden,)), decoder=Dense(hidden=(64,)), latent=protocol.latent)
    config = Config(
        dataset=protocol.dataset,
        binarise=protocol.binarise,
        model=model,
        objective=ELBO(),
        epochs=protocol.epochs,
        batch_size=100,
    )
    found = trained(config, seed, data)
    out: dict[str, Any] = {}
    for split in ("train", "test"):
        x = jnp.asarray(shown(data, split).batch.x[: protocol.examples])
        parts = gaps(found, x, jax.random.key(seed), protocol.steps, protocol.draws)
        out |= {f"{name}_{split}_nats": np.mean(value) for name, value in parts.items()}
    return out


def stacked(path: Path, record: dict[str, Any], arrays: Any) -> bool:
    """Draw both gaps on each other, of training and test examples side by side (mean over seeds)."""
    with figure(path, 7.2, 4.0) as fig:
        axes = fig.subplots()
        rows = list(record["rows"])
        mean = lambda row, part, split: float(np.mean(record["rows"][row]["metrics"][f"{part}_{split}_nats"]))
        for at, split in ((-0.2, "train"), (0.2, "test")):
            low = np.array([mean(row, "approximation", split) for row in rows])
            high = np.array([mean(row, "amortisation", split) for row in rows])
            places = np.arange(len(rows)) + at
            axes.bar(places, low, 0.36, color=TRAIN, label="approximation" if at < 0 else None)
            axes.bar(places, high, 0.36, low, color=VALIDATION, label="amortisation" if at < 0 else None)
            for x, y in zip(places, low + high, strict=True):
                axes.annotate(split, (x, y), ha="center", va="bottom", fontsize=9)
        axes.set_xticks(range(len(rows)), rows)
        axes.set(ylabel="gap, nats")
        axes.margins(y=0.12)
        fig.legend(loc="outside lower center", ncols=2)
        headline(fig, record)
    return True


named = lambda hidden: f"encoder of {hidden}"
WIDTHS = (16, 64, 256)
STUDY = Study(
    rows={named(hidden): Case(functools.partial(row, hidden=hidden)) for hidden in WIDTHS},
    protocol=GapsProtocol(),
    metric="amortisation_test_nats",
    columns=("amortisation_train_nats", "approximation_test_nats", "approximation_train_nats"),
    claims=(
        Claim(
            "amortisation over approximation gap, test, encoder of 16",
            lambda rows: rows[named(16)]["amortisation_test_nats"] / rows[named(16)]["approximation_test_nats"],
            low=1.0,
        ),
        Claim(
            "amortisation gap on test examples, encoder of 256 minus encoder of 16, nats",
            lambda rows: rows[named(256)]["amortisation_test_nats"] - rows[named(16)]["amortisation_test_nats"],
            high=0.0,
            expected=0.43 - 0.56,
        ),
        *(
            Claim(
                f"amortisation gap, test minus training examples, encoder of {hidden}, nats",
                lambda rows, row=named(hidden): (
                    rows[row]["amortisation_test_nats"] - rows[row]["amortisation_train_nats"]
                ),
                low=0.0,
                expected=expected,
            )
            for hidden, expected in zip(WIDTHS, (0.10, 0.12, 0.12), strict=True)
        ),
    ),
    figures=(stacked,),
    profiles={
        "smoke": Profile(1, {"epochs": 1, "examples": 8, "steps": 2, "draws": 4}, (named(16),), differs="1 epoch"),
        "cpu": Profile(3),
        "paper": Profile(10, {"dataset": "mnist", "latent": 50, "epochs": 300, "examples": 1_000, "steps": 2_000}),
    },
)
