"""Sparse dictionaries on the activations of a character transformer, judged by what they do to its predictions.

Claim: Spliced into the network, the reconstruction by a top-k dictionary recovers more of the cross-entropy than as
    many principal components; top-k at least what the L1 penalty does, batch top-k at least top-k and at least nested
    widths, gates at least L1, learned thresholds at least gates, at the same number of units in use. The first quarter
    of nested units recovers by itself what that of batch top-k does not.
Source: Bricken et al. 2023, Towards monosemanticity (79% of the loss recovered, zero ablation);
    Gao et al. 2024 (top-k over L1, judged downstream), Bussmann et al. 2024 (batch top-k), Rajamanoharan et al. 2024
    (gated over L1; JumpReLU at least gated), Bussmann et al. 2025 (nested: a minor cost in what is recovered).
Command: python -m experiments activations
Cost: one transformer a seed (2 layers of 64 numbers, 4 epochs of CPython's documentation), 6 kinds of 4 strengths.
Expected: orderings, not numbers: published ones are of language models with thousands of units.
Caveats: The stream behind the first of two layers, 64 numbers, scaled to a total variance of 8. Recovered: (loss of the
    stream zeroed - loss of the reconstruction) / (loss zeroed - the network's own loss), test text; by the mean of the
    stream in place of zero it stands beside. Numbers at L0 = 8 are read off a kind's frontier by linear interpolation.
    Units of the other kinds are in no order: their first quarter is any quarter.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data.files.kinds.text import to_strings
from experiments.reporting import examples_page
from experiments.reporting.plots import headline
from experiments.running import group
from experiments.running.claims import Claim
from experiments.running.study import Arrays, Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained_on
from experiments.tables.uses.dictionaries import dictionaries as kinds
from models import ELBO, Dense, Model, Transformer
from models.likelihoods import TokensLikelihood
from models.metrics.known import dictionary as known
from train import Config
from training.evaluate import trained_model
from training.examples import Examples
from training.pictures.drawing import figure

VARIANCE = 8.0  # of the activations that dictionaries see, in all


class ActivationsProtocol(NamedTuple):
    """The network, and dictionaries of what it computes."""

    dataset: str = "python_docs"
    steps: int = 64
    """characters of a window"""
    pieces: int = 6000
    """windows of the training text"""
    width: int = 64
    text_epochs: int = 4
    rows: int = 60_000
    """activations that dictionaries are trained on"""
    windows: int = 200
    """of the test text"""
    latent: int = 256
    strengths: int = 4
    epochs: int = 4
    batch: int = 128
    active: int = 8
    """L0 at which kinds are compared"""
    shown: int = 40
    """units on the page"""


class Read(NamedTuple):
    """A network, the activations of its training text and test windows (m, steps)."""

    writer: Any
    seen: np.ndarray
    factor: float
    """of the activations, so that their variances sum to 8"""
    ids: np.ndarray
    text: list[str]

    @property
    def tested(self) -> np.ndarray:
        """Return the activations of the test windows, (m, steps, width), scaled."""
        return np.asarray(stream(self.writer, self.ids)) * self.factor

    def nats(self, h: Any) -> float:
        """Return the cross-entropy per character of the test windows with h in the stream's place."""
        return float(cross_entropy(self.writer, jnp.asarray(h), jnp.asarray(self.ids)))


@functools.partial(jax.jit, static_argnums=2)
def stream(writer: Any, ids: Any, layers: int = 1) -> Any:
    """Return what the first so many layers leave in the stream, (m, steps, width)."""
    return writer.stream(jnp.zeros((len(ids), 1)), writer.entry.look_up(writer.before(ids, None)), layers)


@jax.jit
def cross_entropy(writer: Any, h: Any, ids: Any) -> Any:
    """Return the mean of -log p of every character, nats."""
    logs = jax.nn.log_softmax(writer.from_stream(h, 1))
    return -jnp.take_along_axis(logs, ids[..., None], axis=2).mean()


def windows(data: Data, split: str, steps: int) -> np.ndarray:
    """Return a split's characters, without ends, in pieces of equal length: (n, steps) int32."""
    x = np.asarray(data.dataset.splits[split].x)
    whole = x[np.cumsum(x == 0, axis=1) == 0].astype(np.int32)
    return whole[: len(whole) // steps * steps].reshape(-1, steps)


def network_config(protocol: ActivationsProtocol, data: Data) -> Config:
    """Return the run of a text autoencoder whose code is too dear to be used: its decoder is a language model."""
    likelihood = TokensLikelihood(int(data.dataset.range[1]) + 1)
    model = Model(Dense(()), Transformer(width=protocol.width), 1, likelihood=likelihood)
    return Config(model=model, objective=ELBO(beta=10.0), epochs=protocol.text_epochs, batch_size=32, lr=3e-3)


class Networks:
    """The last network that was read: all rows of a seed share it."""

    def __init__(self) -> None:
        self.last: tuple[Any, Any] = (None, None)

    def of(self, protocol: ActivationsProtocol, seed: int, data: Data) -> Read:
        """Return the trained network of a seed and its activations."""
        if self.last[0] != (protocol, seed):
            x = windows(data, "train", protocol.steps)[: protocol.pieces]
            model = trained_on(network_config(protocol, data), seed, Examples(jnp.asarray(x), (0.0, 1.0)))
            self.last = ((protocol, seed), read(model.decoder, protocol, seed, data))
        return self.last[1]


NETWORKS = Networks()


def read(writer: Any, protocol: ActivationsProtocol, seed: int, data: Data) -> Read:
    """Return a network with a draw of its training text's activations, (rows, width)."""
    x, ids = (windows(data, split, protocol.steps) for split in ("train", "test"))
    some = np.random.default_rng(seed).permutation(len(x))[: -(-protocol.rows // protocol.steps)]
    ids = ids[: protocol.windows]
    made = Read(writer, np.zeros(0), 1.0, ids, to_strings(ids, data.dataset.reading))
    seen = np.asarray(stream(writer, x[some])).reshape(-1, protocol.width)[: protocol.rows]
    factor = float(np.sqrt(VARIANCE / seen.var(0).sum()))
    return made._replace(seen=seen * factor, factor=factor)


class Spliced(NamedTuple):
    """What the network's loss is, in nats per character, with its own stream, the mean of it, and zeros."""

    own: float
    mean: float
    zero: float

    @classmethod
    def of(cls, read: Read, h: np.ndarray) -> "Spliced":
        """Return the three of test activations h, (m, steps, width), scaled."""
        mean = read.seen.mean(0) / read.factor
        return cls(*(read.nats(value) for value in (h / read.factor, np.broadcast_to(mean, h.shape), np.zeros_like(h))))

    def numbers(self, nats: float) -> dict[str, float]:
        """Return what a reconstruction with that loss recovers."""
        part = lambda ablated: (ablated - nats) / (ablated - self.own)
        return {
            "recovered": part(self.zero),
            "recovered_over_mean": part(self.mean),
            "nats": nats,
            "own_nats": self.own,
            "mean_nats": self.mean,
            "zero_nats": self.zero,
        }


def numbers(read: Read, spliced: Spliced, h: np.ndarray, mean: np.ndarray, l0: float) -> dict[str, float]:
    """Return the numbers of a reconstruction `mean` of test activations h."""
    flat = h.reshape(-1, h.shape[-1])
    explained = known.explained_variance(flat, mean.reshape(flat.shape))
    return {"l0": l0, "explained_variance": explained, **spliced.numbers(read.nats(mean / read.factor))}


def at_active(found: list[dict[str, float]], protocol: ActivationsProtocol) -> dict[str, Any]:
    """Return the numbers of the strength whose L0 is nearest the protocol's, and the frontier there."""
    line = sorted(found, key=lambda f: f["l0"])
    near = min(line, key=lambda f: abs(f["l0"] - protocol.active))
    at = lambda name: float(np.interp(protocol.active, [f["l0"] for f in line], [f[name] for f in line]))
    both = {"recovered_at_l0": at("recovered"), "explained_at_l0": at("explained_variance")}
    frontier = np.array([[f["l0"], f["explained_variance"], f["recovered"]] for f in line])
    return {"lost_at_l0": 1 - both["recovered_at_l0"], **both, **near, "frontier": frontier}


def components(protocol: ActivationsProtocol, seed: int, data: Data) -> Mapping[str, Any]:
    """Return the row of principal components: as many as dictionaries have units in use."""
    from sklearn.decomposition import PCA

    read = NETWORKS.of(protocol, seed, data)
    h = read.tested
    spliced, flat, found = Spliced.of(read, h), h.reshape(-1, h.shape[-1]), []
    for k in ACTIVE[: protocol.strengths]:
        pca = PCA(min(k, protocol.width), random_state=seed).fit(read.seen)
        mean = pca.inverse_transform(pca.transform(flat)).reshape(h.shape).astype(np.float32)
        found.append({"dead_share": 0.0, **numbers(read, spliced, h, mean, float(k))})
    return at_active(found, protocol)


ACTIVE = (2, 4, 8, 16)
WEIGHTS = (0.2, 0.4, 0.8, 1.6)
KINDS = {
    kinds.L1: kinds.KINDS[kinds.L1]._replace(strengths=WEIGHTS),
    kinds.TOPK: kinds.KINDS[kinds.TOPK]._replace(strengths=ACTIVE),
    kinds.BATCHTOP: kinds.KINDS[kinds.BATCHTOP]._replace(strengths=ACTIVE),
    kinds.JUMP: kinds.KINDS[kinds.JUMP]._replace(strengths=tuple(w / 4 for w in WEIGHTS)),
    kinds.GATED: kinds.KINDS[kinds.GATED]._replace(strengths=WEIGHTS),
    kinds.NESTED: kinds.KINDS[kinds.NESTED]._replace(strengths=ACTIVE),
}


def dictionaries(kind: kinds.Kind, protocol: ActivationsProtocol, seed: int, x: np.ndarray) -> list[Any]:
    """Return a trained dictionary of each strength, of activations x (n, width): one program for all penalties."""
    how = kinds.DictionariesProtocol(latent=protocol.latent, epochs=protocol.epochs, batch=protocol.batch)
    strengths = kind.strengths[: protocol.strengths]
    configs = [dataclasses.replace(kind.at(s, 1.0, how), seed=seed) for s in strengths]
    out: list[Any] = [None] * len(configs)
    for places in group.grouped(configs):
        ends = kinds.states(group.stack([configs[i] for i in places]), Examples(jnp.asarray(x)))
        for at, i in enumerate(places):
            out[i] = trained_model(configs[i], jax.tree.map(lambda a, at=at: a[at], ends))
    return out


@jax.jit
def through(model: Any, x: Any) -> tuple[Any, Any, Any]:
    """Return the codes and the reconstructions of activations, by all units and by the first quarter of them."""
    z = model.encode(x).mean
    first = jnp.arange(z.shape[1]) < z.shape[1] // 4
    return z, model.decode(z).mean, model.decode(jnp.where(first, z, 0)).mean


def dictionary(name: str) -> Case:
    """Return the row of a kind of dictionary."""

    def row(protocol: ActivationsProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        read = NETWORKS.of(protocol, seed, data)
        h = read.tested
        spliced, flat, found, codes = Spliced.of(read, h), h.reshape(-1, h.shape[-1]), [], []
        for model in dictionaries(KINDS[name], protocol, seed, read.seen):
            z, mean, quarter = map(np.asarray, through(model, flat))
            l0, dead = known.in_use(z)
            by_quarter = spliced.numbers(read.nats(quarter.reshape(h.shape) / read.factor))["recovered"]
            more = {"dead_share": dead, QUARTER: by_quarter}
            found.append(more | numbers(read, spliced, h, mean.reshape(h.shape), l0))
            codes.append(z)
        near = min(range(len(found)), key=lambda i: abs(found[i]["l0"] - protocol.active))
        return at_active(found, protocol) | examples_page.strongest(
            codes[near].reshape(*h.shape[:2], -1), read.text, protocol.shown
        )

    return Case(row, bound=PCA_ROW)


def frontiers(path: Path, record: Mapping[str, Any], arrays: Arrays) -> bool:
    """Draw what is not explained and what is not recovered against L0, a line a seed."""
    with figure(path, 9.6, 4.4) as fig:
        sides = fig.subplots(1, 2)
        for axes, column, label in zip(sides, (1, 2), ("unexplained variance", "cross-entropy lost"), strict=True):
            for i, name in enumerate(record["rows"]):
                for seed, points in enumerate(arrays[name]["frontier"]):
                    said = None if seed else name
                    axes.plot(points[:, 0], 1 - points[:, column], ".-", color=f"C{i}", lw=1, alpha=0.8, label=said)
            axes.axvline(record["protocol"]["active"], color="0.6", lw=1)
            axes.set(xscale="log", yscale="log", xlabel="units in use (L0)", ylabel=label)
            axes.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])
            axes.minorticks_off()
        sides[0].legend(fontsize=8)
        headline(fig, record)
    return True


def examples(path: Path, record: Mapping[str, Any], arrays: Arrays) -> bool:
    """Draw the strongest examples of some units of one dictionary, and write the page of all (`NAME.html`)."""
    name = next((name for name in (kinds.BATCHTOP, *KINDS) if name in arrays), None)
    if name is None:
        return False
    units = examples_page.units_of(arrays[name])
    about = (
        f"Dictionary {name}, seed 0: units from the busiest to the rarest. Shaded: how strongly the unit is on when "
        "the network has read so far; outlined: where it is strongest. Test text, CPython's documentation."
    )
    examples_page.write(path.with_name(f"{record['name']}.html"), "What units answer to", about, units)
    examples_page.picture(path, units, record)
    return True


PCA_ROW = "principal components"
ORDER = (
    (kinds.TOPK, kinds.L1),
    (kinds.BATCHTOP, kinds.TOPK),
    (kinds.BATCHTOP, kinds.NESTED),
    (kinds.GATED, kinds.L1),
    (kinds.JUMP, kinds.GATED),
)
RECOVERED, QUARTER = "recovered_at_l0", "recovered_by_first_quarter"
STUDY = Study(
    rows={PCA_ROW: Case(components)} | {name: dictionary(name) for name in KINDS},
    protocol=ActivationsProtocol(),
    metric="lost_at_l0",
    columns=(
        *(RECOVERED, "explained_at_l0", "l0", "recovered", "recovered_over_mean", QUARTER),
        *("nats", "own_nats", "dead_share"),
    ),
    claims=(
        Claim("recovered at L0 = 8, top-k (Bricken et al. 2023: 0.79)", lambda r: r[kinds.TOPK][RECOVERED], low=0.79),
        Claim(
            "recovered at L0 = 8, top-k minus principal components",
            lambda rows: rows[kinds.TOPK][RECOVERED] - rows[PCA_ROW][RECOVERED],
            low=0.0,
        ),
        *(Claim(f"recovered at L0 = 8, {a} minus {b}", kinds.ahead(a, b, RECOVERED), low=0.0) for a, b in ORDER),
        Claim(
            "recovered by the first quarter of units, nested minus batch top-k",
            kinds.ahead(kinds.NESTED, kinds.BATCHTOP, QUARTER),
            low=0.0,
        ),
    ),
    figures=(frontiers, examples),
    profiles={
        "smoke": Profile(
            1,
            {
                "steps": 32,
                "pieces": 320,
                "width": 16,
                "text_epochs": 1,
                "rows": 1000,
                "windows": 20,
                "latent": 24,
                "strengths": 2,
            }
            | {"epochs": 1, "active": 3, "shown": 6},
            (PCA_ROW, kinds.NESTED),
            "16 numbers, 1 epoch",
        ),
        "cpu": Profile(3),
        "paper": Profile(5, {"width": 128, "text_epochs": 30, "rows": 300_000, "latent": 2048, "epochs": 10}),
    },
)
