"""Contractive penalties as public code has them, against the exact one.

Claim: Of the formulas that are found in place of the squared Frobenius norm of the encoder's Jacobian, none reaches
    the trade-off between error and contraction of the exact one; those whose gradient is zero train the plain
    autoencoder.
Source: Rifai et al. 2011, equation 7 (the penalty); the formulas are those that `models.terms.check_penalty` knows,
    from an audit of public repositories.
Command: python -m experiments penalties_in_the_wild
Cost: 7 formulas, 4 weights, 3 seeds, digits, one sigmoid layer of 100 with tied weights; a program for each formula.
Expected: the exact penalty first; detached weights bitwise as none (a prototype of this project).
Caveats: each formula has its best weight of the same grid, chosen by the training trade-off, and is judged on test
    examples. The trade-off is what the exact penalty minimises on training examples, so it has a home advantage there;
    that is the claim: what one wants contracted is contracted by penalising it. The norm not squared lies on the exact
    one's curve (figure), at other weights: its distance is that of a coarse grid. A wrong formula may still help a
    classifier.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reporting.plots import headline
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained
from models import Dense, Mirror, Model, posteriors
from models.batch import Pass
from models.config import config, setting
from models.likelihoods import BernoulliLikelihood
from models.objectives import Reconstruction
from models.terms import Contractive
from models.terms.geometry.check import passed, suspects
from models.terms.geometry.halves import of_pass
from train import Config
from training.pictures.drawing import figure

WANTED = 0.1
"""λ of the trade-off: squared error + λ ||J||²_F"""
WEIGHTS = (0.01, 0.1, 0.3, 1.0)
FORMULAS = {
    "row sums of J": "|1ᵀJ|², the gradient of the summed outputs: row sums of J in place of J",
    "not squared": "||J||_F, not squared",
    "Σ W², no derivative": "Σ W² of the last kernel, without the activation's derivative",
    "Σ act'², no weights": "Σ act'², without the weights",
    "detached weights": "the last layer's closed form with detached weights: no gradient through W",
    "detached Σ W²: a constant": "Σ W² with detached weights: a constant",
}


@config
class InTheWild:
    """One of the formulas that stand in the place of ||J||²_F."""

    weight: float = setting(0.1, at_least=0)
    """factor of the term"""
    formula: str = ""
    """its name in `suspects`"""

    def __call__(self, done: Pass, net: Any) -> jax.Array:
        """Return the formula's value for each example."""
        dense = lambda model: of_pass(done._replace(model=model), "encoder", "in_the_wild")
        value = suspects(dense, done.model, "encoder")[self.formula](done.model, done.model)
        return jnp.broadcast_to(value, (done.batch.x.shape[0],))


class WildProtocol(NamedTuple):
    """What profiles change."""

    dataset: str = "digits"
    epochs: int = 150
    weights: tuple[float, ...] = WEIGHTS


@jax.jit
def measured(model: Any, x: Any) -> tuple[Any, Any]:
    """Return the means of the squared error and of ||J||²_F, exact."""
    done = passed(model, x, None)
    error = jnp.sum(jnp.square(done.p.mean - x).reshape(len(x), -1), axis=1)
    return jnp.mean(error), jnp.mean(Contractive()(done, None))


def config_of(protocol: WildProtocol, terms: tuple[Any, ...]) -> Config:
    """Return an autoencoder of one sigmoid layer with tied weights: untied, a penalty is met by a change of scale."""
    model = Model(
        encoder=Dense(hidden=()),
        decoder=Mirror(tied=True),
        latent=100,
        posterior=posteriors.PointPosterior(activation="sigmoid"),
        likelihood=BernoulliLikelihood(),
    )
    return Config(model=model, objective=Reconstruction(), terms=terms, lr=2e-3, epochs=protocol.epochs, batch_size=64)


def row(protocol: WildProtocol, seed: int, data: Data, formula: str) -> dict[str, Any]:
    """Return a formula's best trade-off, and its curve over the weights."""
    curve, best, out = [], np.inf, {}
    for weight in protocol.weights if formula else (0.0,):
        term: Any = Contractive(weight=weight) if formula == EXACT else InTheWild(weight=weight, formula=formula)
        model = trained(config_of(protocol, (term,) if formula else ()), seed, data)
        of = lambda part, m=model: measured(m, data.splits[part].take(jnp.arange(len(data.splits[part]))))
        (seen_error, seen_norm), (error, norm) = of("train"), of("test")
        curve.append([float(error), float(norm)])
        if float(seen_error + WANTED * seen_norm) < best:
            best = float(seen_error + WANTED * seen_norm)
            out = {"trade_off": error + WANTED * norm, "squared_error": error, "jacobian_squared": norm}
            out |= {"weight": weight, "last_weight_sum": sum(np.sum(a, dtype=float) for a in jax.tree.leaves(model))}
    return out | {"curve": np.asarray(curve)}


def trade_offs(path: Path, record: dict[str, Any], arrays: Any) -> bool:
    """Draw squared error against the true ||J||²_F over the weights of every formula: near the corner is better."""
    from matplotlib import colormaps

    with figure(path, 7.6, 4.8) as fig:
        axes = fig.subplots()
        for i, (row, found) in enumerate(arrays.items()):
            error, norm = np.mean(found["curve"], 0).T
            width = 2.4 if row == EXACT else 1.2
            axes.plot(
                norm,
                error,
                "o-" if len(norm) > 1 else "s",
                color=colormaps["tab10"](i),
                label=row,
                linewidth=width,
                ms=4,
            )
        axes.set(xlabel="true ||J||²_F, test", ylabel="test squared error per image", xscale="log")
        fig.legend(loc="outside center right", fontsize=8)
        headline(fig, record)
    return True


EXACT, NONE = "exact", "no penalty"
over = lambda row: lambda rows: rows[row]["trade_off"] / rows[EXACT]["trade_off"]
STUDY = Study(
    rows={NONE: Case(functools.partial(row, formula="")), EXACT: Case(functools.partial(row, formula=EXACT))}
    | {name: Case(functools.partial(row, formula=text), bound=EXACT) for name, text in FORMULAS.items()},
    protocol=WildProtocol(),
    metric="trade_off",
    columns=("squared_error", "jacobian_squared", "weight"),
    claims=(
        Claim("no penalty over exact, trade-off", over(NONE), 1),
        *(Claim(f"{name} over exact, trade-off", over(name), 1) for name in FORMULAS),
        Claim(
            "a constant penalty minus none, sum of all parameters: 0 where it trains the plain autoencoder to the bit",
            lambda r: r["detached Σ W²: a constant"]["last_weight_sum"] - r[NONE]["last_weight_sum"],
            0,
            0,
            0,
        ),
    ),
    figures=(trade_offs,),
    profiles={
        "smoke": Profile(1, {"epochs": 1, "weights": (0.1,)}, (NONE, EXACT, "row sums of J"), differs="1 epoch"),
        "cpu": Profile(3),
        "paper": Profile(5, {"dataset": "mnist", "epochs": 30, "weights": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)}),
    },
)
