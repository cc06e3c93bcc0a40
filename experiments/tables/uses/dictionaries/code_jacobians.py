"""What one dictionary's units do to another's, through a perceptron of a transformer: the Jacobian between two codes.

Claim: The Jacobian between the codes before and behind a perceptron is sparser in a trained transformer than in one of
    random weights, and sparser still where dictionaries are trained for it, at little cost in what they explain; its
    active block holds all of it and takes a part of the time of the whole.
Source: Farnik et al. 2025, Jacobian sparse autoencoders (arXiv:2502.18147): trained against random transformers, and a
    penalty on the mean absolute entry.
Command: python -m experiments code_jacobians
Cost: the transformer of `activations`, two top-k dictionaries of 256 units (8 in use), 600 steps of both together.
Expected: orderings, not numbers: published ones are of language models with thousands of units.
Caveats: Sparsity is Hoyer's, (√n - |J|₁ / |J|₂) / (√n - 1) over the n = 64 entries of the active block: 1 for a single
    entry, 0 for equal ones; `top_share` is the largest tenth's part of |J|₁. Everything outside the block is 0 for the
    outputs that are off, or acts from units that are off. Times are of this machine, in turns with each other.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import grads
import train
from experiments.reporting.plots import headline
from experiments.running.claims import Claim
from experiments.running.study import Arrays, Case, Data, Study, protocol_of
from experiments.running.table import Profile
from experiments.tables.uses.dictionaries import activations as read
from experiments.tables.uses.dictionaries import dictionaries as kinds
from grads.costs import timing
from models.metrics.known import dictionary as known
from training.examples import Examples
from training.pictures.drawing import figure


class CodeJacobiansProtocol(NamedTuple):
    """The network of `activations`, and the two dictionaries."""

    network: read.ActivationsProtocol = read.ActivationsProtocol()
    dataset: str = "python_docs"
    active: int = 8
    steps: int = 600
    """of both dictionaries together, 64 activations each"""
    penalty: float = 0.1
    """on the sum of absolute entries, where there is one"""
    judged: int = 500
    """test activations"""


class Between(nnx.Module):
    """Two dictionaries and the perceptron between what they are of; their activations are scaled by the factors."""

    def __init__(self, layer: Any, first: Any, second: Any, factors: tuple[float, float]):
        self.layer, self.first, self.second, self.factors = layer, first, second, factors

    def __call__(self, z: Any) -> Any:
        """Return the second code that the first one, (latent,), leads to."""
        into = self.first.decode(z[None]).mean / self.factors[0]
        out = self.layer.perceptron(into[:, None])[:, 0] * self.factors[1]
        return self.second.encode(out).mean[0]

    def block(self, z: Any, active: int) -> Any:
        """Return the Jacobian between the active units of both codes, (active, active)."""
        return grads.active_block(self, z, rows=active, columns=active).values


def taps(writer: Any, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what the first layer's perceptron is given and gives at every character, (n, width) each."""

    @jax.jit
    def both(writer: Any, ids: Any) -> tuple[Any, Any]:
        h, layer = read.stream(writer, ids, 0), writer.layers[0]
        into = layer.between(layer.attend(h, writer.past, None)[0], False)
        return into, layer.perceptron(into)

    return tuple(np.asarray(a).reshape(-1, a.shape[-1]) for a in both(writer, ids))  # type: ignore[return-value]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def together(graph: Any, active: int, steps: int, state: Any, x: Any, y: Any, penalty: Any, key: Any) -> Any:
    """Return the state of a `Between` after Adam on both squared errors and penalty * Σ |J| of the active block."""
    params, rest = nnx.split_state(state, nnx.Param, ...)
    only = nnx.to_flat_state(params)
    moves = {path for path, _ in only if path[0] != "layer"}
    rule = optax.adam(1e-3)
    merged = lambda p: nnx.merge(graph, nnx.from_flat_state([(k, p.get(k, v)) for k, v in only]), rest)
    begin = {path: value for path, value in only if path in moves}

    def loss(p: Any, at: Any) -> Any:
        net = merged(p)
        z, z_out = net.first.encode(x[at]).mean, net.second.encode(y[at]).mean
        errors = jnp.square(net.first.decode(z).mean - x[at]).sum(1) + jnp.square(
            net.second.decode(z_out).mean - y[at]
        ).sum(1)
        return (errors + penalty * jnp.abs(jax.vmap(lambda z: net.block(z, active))(z)).sum((1, 2))).mean()

    def step(carry: Any, key: Any) -> tuple[Any, None]:
        p, memory = carry
        updates, memory = rule.update(jax.grad(loss)(p, jax.random.randint(key, (64,), 0, len(x))), memory, p)
        return (optax.apply_updates(p, updates), memory), None

    (p, _), _ = jax.lax.scan(step, (begin, rule.init(begin)), jax.random.split(key, steps))
    return nnx.state(merged(p))


def hoyer(j: np.ndarray) -> float:
    """Return the mean over examples of Hoyer's sparsity of J, (n, rows, columns); those without an entry left out."""
    flat = np.abs(j.reshape(len(j), -1)).astype(float)
    flat = flat[flat.any(1)]
    root = np.sqrt(flat.shape[1])
    return float(np.mean((root - flat.sum(1) / np.sqrt(np.square(flat).sum(1))) / (root - 1)))


def top_share(j: np.ndarray) -> float:
    """Return the part of Σ |J| that the largest tenth of the entries has, in the mean over examples."""
    flat = np.sort(np.abs(j.reshape(len(j), -1)), axis=1)[:, ::-1]
    flat = flat[flat.any(1)]
    return float(np.mean(flat[:, : max(1, flat.shape[1] // 10)].sum(1) / flat.sum(1)))


def case(is_trained: bool, penalised: bool) -> Case:
    """Return the row of a network and of a way to train its two dictionaries."""

    def row(protocol: CodeJacobiansProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        network, k = protocol.network, protocol.active
        pieces = [read.windows(data, split, network.steps) for split in ("train", "test")]
        if is_trained:
            writer = read.NETWORKS.of(network, seed, data).writer
        else:
            config = read.network_config(network, data)
            writer = train.init(
                config, jax.random.key(seed), Examples(jnp.asarray(pieces[0][:1]), (0.0, 1.0))
            ).model.decoder
        some = np.random.default_rng(seed).permutation(len(pieces[0]))[: -(-network.rows // network.steps)]
        raw = taps(writer, pieces[0][some]), taps(writer, pieces[1][: network.windows])
        factors = tuple(float(np.sqrt(read.VARIANCE / a.var(0).sum())) for a in raw[0])
        scaled = lambda both: [a[: network.rows] * f for a, f in zip(both, factors, strict=True)]
        seen, new = map(scaled, raw)
        kind = kinds.KINDS[kinds.TOPK]._replace(strengths=(k,))
        first, second = (read.dictionaries(kind, network, seed, x)[0] for x in seen)
        net = Between(writer.layers[0], first, second, factors)  # type: ignore[arg-type]
        graph, state = nnx.split(net)
        penalty, key = jnp.asarray(protocol.penalty * penalised), jax.random.key(seed)
        net = nnx.merge(graph, together(graph, k, protocol.steps, state, *map(jnp.asarray, seen), penalty, key))
        return judged(net, [a[:: max(1, len(a) // protocol.judged)] for a in new], k)

    return Case(row, bound=None if penalised or is_trained else TRAINED)


def judged(net: Between, test: list[np.ndarray], k: int) -> dict[str, Any]:
    """Return the numbers of two dictionaries on test activations before and behind the perceptron."""
    (z, mean, *_), (_, mean_out, *_) = (read.through(m, x) for m, x in zip((net.first, net.second), test, strict=True))
    block = jax.jit(jax.vmap(lambda z: net.block(z, k)))
    whole = jax.jit(jax.vmap(jax.jacrev(net)))
    j, some = np.asarray(block(z)), z[:32]
    places = [jax.lax.top_k(jnp.abs(a), k)[1] for a in (jax.vmap(net)(some), some)]
    full = np.asarray(whole(some))
    cut = np.take_along_axis(
        np.take_along_axis(full, np.asarray(places[0])[:, :, None], 1), np.asarray(places[1])[:, None], 2
    )
    seconds = timing.best({"block": lambda: block(some), "whole": lambda: whole(some)}, turns=20)
    return {
        "density": 1 - hoyer(j),
        "hoyer": hoyer(j),
        "top_share": top_share(j),
        "l1": float(np.abs(j).sum((1, 2)).mean()),
        "explained_before": known.explained_variance(test[0], np.asarray(mean)),
        "explained_behind": known.explained_variance(test[1], np.asarray(mean_out)),
        "block_us": 1e6 * seconds["block"] / len(some),
        "whole_us": 1e6 * seconds["whole"] / len(some),
        "times_faster": seconds["whole"] / seconds["block"],
        "relative_difference": float(np.abs(cut - j[: len(some)]).max() / np.abs(cut).max()),
        "entries": np.sort(np.abs(j.reshape(len(j), -1)), axis=1)[:, ::-1].mean(0),
    }


def profiles_of_entries(path: Path, record: Mapping[str, Any], arrays: Arrays) -> bool:
    """Draw the entries of the active block by falling size, in shares of the largest, a line a seed."""
    with figure(path, 6.4, 4.2) as fig:
        axes = fig.subplots()
        for i, name in enumerate(record["rows"]):
            for seed, entries in enumerate(arrays[name]["entries"]):
                axes.plot(entries / entries[0], color=f"C{i}", lw=1, label=None if seed else name)
        axes.set(yscale="log", xlabel="entry of the active block, largest first", ylabel="|J| over its largest, mean")
        axes.legend(fontsize=8)
        headline(fig, record)
    return True


RANDOM, TRAINED, PENALISED = "random weights", "trained", "trained, penalty on J"
SMALL = protocol_of(read.STUDY, read.STUDY.profiles["smoke"])
STUDY = Study(
    rows={RANDOM: case(False, False), TRAINED: case(True, False), PENALISED: case(True, True)},
    protocol=CodeJacobiansProtocol(),
    metric="density",
    columns=(
        *("hoyer", "top_share", "l1", "explained_before", "explained_behind"),
        *("block_us", "whole_us", "times_faster", "relative_difference"),
    ),
    claims=(
        Claim("sparsity (Hoyer), trained minus random weights", kinds.ahead(TRAINED, RANDOM, "hoyer"), low=0.0),
        Claim("sparsity (Hoyer), with the penalty minus without", kinds.ahead(PENALISED, TRAINED, "hoyer"), low=0.0),
        Claim(
            "explained behind the perceptron, with the penalty minus without",
            kinds.ahead(PENALISED, TRAINED, "explained_behind"),
            low=-0.05,
        ),
        Claim(
            "time of the whole Jacobian over that of its active block",
            lambda rows: rows[TRAINED]["times_faster"],
            low=1.0,
        ),
        Claim(
            "block against the same entries of jacrev, relative",
            lambda rows: rows[TRAINED]["relative_difference"],
            high=1e-4,
        ),
    ),
    figures=(profiles_of_entries,),
    profiles={
        "smoke": Profile(
            1,
            {"network": SMALL, "active": 3, "steps": 3, "judged": 40},
            (RANDOM,),
            "16 numbers, untrained",
        ),
        "cpu": Profile(3),
    },
)
