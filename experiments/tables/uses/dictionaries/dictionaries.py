"""Sparse dictionaries on activations whose features are known: which kind finds them, and at what price.

Claim: Nested widths absorb less than batch top-k and explain less; at the true number of features in use batch top-k
    explains at least what top-k does, top-k at least what the L1 penalty does, and so do gates and learned thresholds.
Source: Bussmann et al. 2025 (Matryoshka: less absorption, a minor cost in reconstruction), Bussmann et al. 2024
    (BatchTopK), Gao et al. 2024 (top-k over ReLU with L1), Rajamanoharan et al. 2024 (gated over L1; JumpReLU at least
    gated); the generator after Chanin et al. 2026 (SynthSAEBench): correlation, hierarchy, superposition.
Command: python -m experiments dictionaries
Cost: 7 kinds, 3 seeds, 4 strengths and 2 widths each (one program for all penalties and widths of a kind).
Expected: orderings, not numbers: the published ones are of activations of language models with thousands of units.
Caveats: 64 features in 32 dimensions. A kind's numbers are those of the strength whose L0 is nearest the true one,
    whole width; `explained_at_true_l0` is read off its frontier by linear interpolation, flat beyond its ends. The
    transcoder is asked for another layer (same coefficients, other directions): its explained variance is no rival's.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import train
from experiments.reporting.plots import headline
from experiments.running import group
from experiments.running.claims import Claim, Numbers
from experiments.running.study import Arrays, Case, Data, Study
from experiments.running.table import Profile
from models import Dense, Dictionary, Model, Reconstruction, posteriors, terms
from models.likelihoods import NormalLikelihood
from models.metrics.known import dictionary as known
from training.evaluate import trained_model
from training.examples import Examples
from training.pictures.drawing import figure

ACTIVE = (2, 4, 6, 10)  # of top-k
WEIGHTS = (0.2, 0.4, 0.8, 1.6)  # of L1 penalties, in squared units of an activation


class DictionariesProtocol(NamedTuple):
    """The world that activations come from, and how dictionaries are trained."""

    values: int = 32
    parents: int = 6
    children: int = 3
    """of each parent, never two at once"""
    free: int = 40
    """features outside the hierarchy, correlated"""
    examples: int = 20_000
    test: int = 4000
    latent: int = 80
    shares: tuple[float, ...] = (0.5, 1.0)
    """widths, as shares of latent"""
    strengths: int = 4
    """so many of each kind's"""
    epochs: int = 20
    batch: int = 128


class World(NamedTuple):
    """Activations (n, values) of two layers, the coefficients (n, features) and directions they are sums of."""

    first: np.ndarray
    second: np.ndarray
    coefficients: np.ndarray
    directions: tuple[np.ndarray, np.ndarray]
    parent: np.ndarray


def spread(rng: np.random.Generator, features: int, values: int) -> np.ndarray:
    """Return unit directions (features, values) that keep apart: descent on the fourth powers of their cosines."""
    rows = rng.normal(size=(features, values))
    for _ in range(200):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows - 0.2 * (rows @ rows.T - np.eye(features)) ** 3 @ rows
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@functools.lru_cache(maxsize=2)
def world(protocol: DictionariesProtocol, seed: int) -> World:
    """Return the activations of a seed, training examples first.

    Parents are on with probability 1/4, then one of their children, or none, with 3/4; free features by Zipf's law from
    0.15 to 0.02 through a Gaussian copula of three factors. Sizes are N(1, 0.3²), at least 0.1; noise 0.03 a value.
    """
    rng = np.random.default_rng([12, seed])
    n, p, k, free = protocol.examples + protocol.test, protocol.parents, protocol.children, protocol.free
    parents = rng.random((n, p)) < 0.25
    which = np.where(rng.random((n, p)) < 0.75, rng.integers(k, size=(n, p)), -1)
    children = (parents[:, :, None] & (which[:, :, None] == np.arange(k))).reshape(n, p * k)
    rate = np.maximum(0.15 / np.sqrt(1 + np.arange(free)), 0.02)
    loads = rng.uniform(-0.5, 0.5, (3, free))
    hidden = rng.normal(size=(n, 3)) @ loads + rng.normal(size=(n, free)) * np.sqrt(1 - np.square(loads).sum(0))
    others = hidden > np.quantile(rng.normal(size=100_000), 1 - rate)
    on = np.concatenate([parents, children, others], axis=1)
    coefficients = on * np.maximum(0.1, rng.normal(1, 0.3, on.shape))
    directions = tuple(spread(rng, on.shape[1], protocol.values) for _ in range(2))
    noise = lambda: rng.normal(0, 0.03, (n, protocol.values)) + rng.normal(0, 0.2, protocol.values)
    first, second = ((coefficients @ rows + noise()).astype(np.float32) for rows in directions)
    parent = np.concatenate([np.full(p, -1), np.repeat(np.arange(p), k), np.full(free, -1)])
    return World(first, second, coefficients, directions, parent)  # type: ignore[arg-type]


class Kind(NamedTuple):
    """How a dictionary is made sparse: posterior and terms at a strength."""

    posterior: Any
    terms: tuple[Any, ...] = ()
    strengths: Sequence[float] = WEIGHTS
    transcoder: bool = False

    def at(self, strength: float, share: float, protocol: DictionariesProtocol) -> train.Config:
        """Return the run of a strength and a width."""
        posterior, penalties = self.posterior, self.terms
        if isinstance(posterior, posteriors.PointPosterior) and posterior.active:
            posterior = dataclasses.replace(posterior, active=int(strength))
        else:
            penalties = (dataclasses.replace(penalties[0], weight=strength), *penalties[1:])
        decoder = Dictionary(share=share, inputs=protocol.values if self.transcoder else 0)
        likelihood = NormalLikelihood()
        model = Model(Dense(()), decoder, protocol.latent, posterior, likelihood=likelihood)
        return train.Config(
            model=model,
            objective=Reconstruction(),
            terms=(*penalties, terms.Revive()),
            epochs=protocol.epochs,
            batch_size=protocol.batch,
            lr=2e-3,
        )


RELU, TOP = posteriors.PointPosterior("relu"), posteriors.PointPosterior("relu", 1)
BATCH = dataclasses.replace(TOP, among="batch")
L1, TOPK, BATCHTOP, JUMP, GATED, NESTED, TRANSCODER = (
    "L1 penalty", "top-k", "batch top-k", "JumpReLU", "gated", "nested (Matryoshka)", "transcoder, top-k"
)  # fmt: skip
KINDS = {
    L1: Kind(RELU, (terms.Sparsity(),)),
    TOPK: Kind(TOP, strengths=ACTIVE),
    BATCHTOP: Kind(BATCH, strengths=ACTIVE),
    JUMP: Kind(posteriors.JumpPosterior(0.2, 0.2), (terms.Sparsity("l0"),), tuple(w / 4 for w in WEIGHTS)),
    GATED: Kind(posteriors.GatedPosterior(), (terms.Sparsity(), terms.Gate())),
    NESTED: Kind(BATCH, (terms.Nested(),), ACTIVE),
    TRANSCODER: Kind(TOP, strengths=ACTIVE, transcoder=True),
}


@jax.jit
def states(configs: train.Config, examples: Examples) -> train.TrainState:
    """Return the ends of all runs of a stack: one program for every penalty and width."""
    one = lambda config: train.train(config, jax.random.key(config.seed), {"train": examples}).tested(config)
    return jax.vmap(one)(configs)


def measured(model: Any, made: World, x: np.ndarray, kind: Kind, protocol: DictionariesProtocol) -> dict[str, float]:
    """Return the numbers of a trained dictionary on test activations."""

    @jax.jit
    def through(x: Any) -> tuple[Any, Any]:
        z = model.encode(x).mean
        return z, model.decode(z).mean

    inputs = protocol.values if kind.transcoder else 0
    codes, mean = map(np.asarray, through(x))
    columns = np.asarray(model.decoder.columns())
    directions, truth = made.directions[int(kind.transcoder)], made.coefficients[protocol.examples :]
    l0, dead = known.in_use(codes)
    found = known.detection(codes, truth, known.matching(columns, directions))
    return {
        "mcc": known.mean_cosine(columns, directions),
        "f1": found.f1,
        "precision": found.precision,
        "recall": found.recall,
        "uniqueness": known.uniqueness(columns, directions, (codes != 0).any(0)),
        "absorption": known.absorption(columns, directions, codes, truth, made.parent),
        "dead_share": dead,
        "l0": l0,
        "explained_variance": known.explained_variance(x[:, inputs:], mean[:, inputs:]),
    }


def row(name: str) -> Case:
    """Return the row of a kind: all strengths and widths, and its numbers at the true L0."""
    kind = KINDS[name]

    def of(protocol: DictionariesProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        made, n = world(protocol, seed), protocol.examples
        x = np.concatenate([made.first, made.second], axis=1) if kind.transcoder else made.first
        grid = [(strength, share) for strength in kind.strengths[: protocol.strengths] for share in protocol.shares]
        configs = [dataclasses.replace(kind.at(*at, protocol), seed=seed) for at in grid]
        found: list[dict[str, float]] = [{}] * len(grid)
        for places in group.grouped(configs):
            ends = states(group.stack([configs[i] for i in places]), Examples(jnp.asarray(x[:n])))
            for row, i in enumerate(places):
                model = trained_model(configs[i], jax.tree.map(lambda a, row=row: a[row], ends))
                found[i] = measured(model, made, x[n:], kind, protocol)
        truth = float((made.coefficients[n:] != 0).sum(1).mean())
        whole = [i for i, (_, share) in enumerate(grid) if share == max(protocol.shares)]
        best = min(whole, key=lambda i: abs(found[i]["l0"] - truth))
        line = np.array(sorted((found[i]["l0"], found[i]["explained_variance"]) for i in whole))
        at_truth = float(np.interp(truth, line[:, 0], line[:, 1]))
        both = zip(grid, found, strict=True)
        frontier = [[share, f["l0"], f["explained_variance"], f["mcc"]] for (_, share), f in both]
        return {
            "missing_mcc": 1 - found[best]["mcc"],
            **found[best],
            "explained_at_true_l0": at_truth,
            "true_l0": truth,
            "strength": grid[best][0],
            "frontier": np.array(frontier),
        }

    return Case(of)


def ahead(of: str, over: str, metric: str) -> Any:
    """Return the function of a claim: by how much one kind's metric is above another's, per seed."""
    return lambda rows: rows[of][metric] - rows[over][metric]


def frontiers(path: Path, record: Mapping[str, Any], arrays: Arrays) -> bool:
    """Draw explained variance against L0, a line a seed: whole width full, others dashed; the true L0 as a line."""
    with figure(path, 7.6, 4.8) as fig:
        axes = fig.subplots()
        for i, name in enumerate(name for name in record["rows"] if name != TRANSCODER):
            for seed, points in enumerate(arrays[name]["frontier"]):
                for share in np.unique(points[:, 0]):
                    some = points[points[:, 0] == share]
                    some = some[some[:, 1].argsort()]
                    is_whole = share == points[:, 0].max()
                    label = name if is_whole and not seed else None
                    style = ".-" if is_whole else ":"
                    axes.plot(some[:, 1], 1 - some[:, 2], style, color=f"C{i}", lw=1, alpha=0.8, label=label)
        truth = next(iter(record["rows"].values()))["metrics"]["true_l0"]
        axes.axvline(np.mean(truth), color="0.6", lw=1)
        axes.set(xscale="log", yscale="log", xlabel="units in use (L0); grey: features in use")
        axes.set_ylabel("unexplained variance (dotted: half the width)")
        axes.legend(fontsize=8)
        headline(fig, record)
    return True


def bars(path: Path, record: Mapping[str, Any], arrays: Arrays) -> bool:
    """Draw MCC, F1 and absorption of every kind at the true L0, seeds as points."""
    shown = {"mcc": "MCC", "f1": "F1", "absorption": "absorption"}
    rows = record["rows"]
    with figure(path, 8.4, 0.9 + 0.38 * len(rows)) as fig:
        for axes, (metric, label) in zip(fig.subplots(1, 3, sharey=True), shown.items(), strict=True):
            for y, facts in enumerate(rows.values()):
                values = facts["metrics"][metric]
                axes.barh(y, np.mean(values), color="C0" if metric != "absorption" else "C3", alpha=0.6)
                axes.plot(values, [y] * len(values), "k.", ms=4)
            axes.set(xlabel=label, yticks=range(len(rows)), yticklabels=list(rows))
        axes.invert_yaxis()
        headline(fig, record)
    return True


EXPLAINED = "explained_at_true_l0"
ORDER = ((BATCHTOP, TOPK), (TOPK, L1), (GATED, L1), (JUMP, GATED))


def lower(rows: Numbers) -> Any:
    """Return the absorption of batch top-k minus that of nested widths."""
    return rows[BATCHTOP]["absorption"] - rows[NESTED]["absorption"]


STUDY = Study(
    rows={name: row(name) for name in KINDS},
    protocol=DictionariesProtocol(),
    metric="missing_mcc",
    columns=("mcc", "f1", "uniqueness", "absorption", "dead_share", "l0", "explained_variance", EXPLAINED),
    claims=(
        Claim("absorption of batch top-k minus nested (Bussmann et al. 2025)", lower, low=0.0),
        Claim("MCC of nested minus batch top-k", ahead(NESTED, BATCHTOP, "mcc"), low=0.0),
        Claim(
            "explained at the true L0, nested minus batch top-k: nested pays (Bussmann et al. 2025)",
            ahead(NESTED, BATCHTOP, EXPLAINED),
            high=0.0,
        ),
        *(Claim(f"explained at the true L0, {a} minus {b}", ahead(a, b, EXPLAINED), low=0.0) for a, b in ORDER),
    ),
    figures=("intervals", frontiers, bars),
    profiles={
        "smoke": Profile(
            1,
            {"values": 8, "parents": 2, "free": 4, "examples": 400, "test": 100, "latent": 12}
            | {"strengths": 2, "epochs": 2, "batch": 50},
            (L1, NESTED),
            "16 features in 8 dimensions, 2 epochs",
        ),
        "cpu": Profile(3),
        "paper": Profile(5, {"values": 128, "parents": 32, "free": 256, "latent": 512, "examples": 200_000}),
    },
)
