"""Drawings as pen strokes: a decoder that sees its own moves against one that sees its code alone, and what codes know.

Claim: A decoder that sees its own earlier moves gives drawings a higher bound than one that sees the code alone, a
    mixture of bivariate normals a higher one than one normal a move, and either decoder a higher one with a code.
Source: Ha & Eck 2017, A neural representation of sketch drawings (sketch-rnn: mixture of 20, three states of the pen,
    a decoder that sees its moves, least nats of KL); Graves 2013 for the mixture. No published number of this protocol.
Command: python -m experiments strokes --data-dir DATA
Cost: 5 networks, 3 seeds, 8 epochs of 3,000 drawings of OMNIGLOT's characters, up to 48 moves each.
Expected: an ordering, no number.
Caveats: `in turn`: the decoder (a GRU) sees its own moves; that its code is used, it misses 15% of them in training
    (Bowman et al. 2016) and 0.25 nats of KL a unit are free (Kingma et al. 2016), which costs bound; without a code
    neither. `swapped`: nats a move more with the code of another drawing. Pictures show the likeliest moves by a code
    and draws at temperature 0.5, fed back where moves are in turn. Moves are in units of their standard deviation,
    noise of one unit of the file's whole numbers added (a density could grow without end at a number that comes again
    and again). Longer drawings are left out, and so is a first move of nothing. Without a folder: polygons.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data.dataset import digest
from experiments.reporting.plots import headline
from experiments.running.claims import Claim
from experiments.running.study import Arrays, Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained_on
from models import ELBO, Model, Recurrent, per_example, summarize
from models.batch import Batch
from models.distributions import Sequence
from models.likelihoods import StrokesLikelihood
from train import Config
from training.pictures.drawing import figure

PLACE = ("omniglot", "omniglot_strokes.npz")


class StrokesProtocol(NamedTuple):
    """What every row is trained and tested on."""

    drawings: int = 3000
    test: int = 500
    steps: int = 48
    width: int = 96
    free: float = 0.25
    """nats of KL of each unit of the code that are free, of decoders that see their own moves"""
    drop: float = 0.15
    """of such decoders: share of their earlier moves that they miss in training"""
    latent: int = 16
    epochs: int = 8


@functools.lru_cache(maxsize=2)
def drawings(protocol: StrokesProtocol, folder: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return drawings as (dx, dy, p) of every step, training and test: (n, steps, 3) float32, p = 2 from the end on."""
    if folder is None:
        found: Any = polygons(protocol.drawings, protocol.steps, 0), polygons(protocol.test, protocol.steps, 1)
    else:
        with np.load(Path(folder, *PLACE)) as held:
            found = tuple(padded(held[f"{k}_xyp"], held[f"{k}_len"], protocol.steps) for k in ("train", "test"))
    order = np.random.default_rng(0).permutation(len(found[0]))[: protocol.drawings]
    seen, new = found[0][order], found[1][: protocol.test]
    if folder is not None:
        rng = np.random.default_rng(1)
        seen, new = (np.where(x[..., 2:] < 2, x + rng.uniform(-0.5, 0.5, x.shape) * [1, 1, 0], x) for x in (seen, new))
    scale = seen[seen[..., 2] < 2][:, :2].std()
    return tuple(np.concatenate([x[..., :2] / scale, x[..., 2:]], 2).astype(np.float32) for x in (seen, new))  # type: ignore[return-value]


def padded(points: np.ndarray, lengths: np.ndarray, steps: int) -> np.ndarray:
    """Return drawings of points in a row, (all points, 3), as rows of so many steps; longer ones are left out."""
    out = []
    for last, n in zip(np.cumsum(lengths), lengths, strict=True):
        drawing = points[last - n : last]
        drawing = drawing[1:] if len(drawing) > 1 and not drawing[0].any() else drawing
        if len(drawing) <= steps:
            row = np.tile([0.0, 0.0, 2.0], (steps, 1))
            row[: len(drawing)] = drawing
            row[len(drawing) - 1, 2] = 2
            out.append(row)
    return np.stack(out)


def polygons(n: int, steps: int, seed: int) -> np.ndarray:
    """Return polygons of 3 to 7 sides, one of which is missing: the pen is lifted before it."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, min(8, steps), n)
    rows = []
    for sides in lengths:
        angle = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(sides + 1) / sides
        moves = np.diff(rng.uniform(1, 3) * np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)
        rows.append(np.concatenate([moves, np.eye(1, sides, rng.integers(sides - 1)).T], axis=1))
    return padded(np.concatenate(rows), lengths, steps)


def row(components: int, coded: bool = True, in_turn: bool = False) -> Case:
    """Return the row of a variational autoencoder of drawings; without a code its KL is too dear to be used."""

    def of(protocol: StrokesProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        seen, new = drawings(protocol, data.folder)
        free, drop = (protocol.free, protocol.drop) if in_turn and coded else (0.0, 0.0)
        config = Config(
            model=Model(
                encoder=Recurrent(width=protocol.width, autoregressive=in_turn, drop_words=drop),
                latent=protocol.latent if coded else 1,
                likelihood=StrokesLikelihood(components),
            ),
            objective=ELBO(warmup_steps=100, free_bits=free) if coded else ELBO(beta=10.0),
            epochs=protocol.epochs,
            batch_size=min(50, len(seen)),
            lr=2e-3,
        )
        model = trained_on(config, seed, seen)
        both = lambda x, key: (jax.tree.map(jnp.sum, per_example(model, Batch(x), key)), model.encode(x).mean)
        sums, z = jax.jit(both)(new, jax.random.key(seed))
        found, steps = summarize(sums, len(new)), float((np.cumsum(new[..., 2] == 2, axis=1) <= 1).sum() / len(new))
        nll = jax.jit(lambda z, x: -model.decode(z).log_prob(x))
        swapped = np.mean(np.asarray(nll(jnp.roll(z, 1, axis=0), new)) - np.asarray(nll(z, new))) / steps
        codes = jax.random.normal(jax.random.key(seed + 1), (8, z.shape[1]))
        return {
            "negative_elbo_nats_per_step": found["negative_elbo_nats"] / steps,
            "nll_nats_per_step": found["nll_nats"] / steps,
            "kl_nats": found["kl_nats"],
            "swapped_nats_per_step": swapped,
            "steps": steps,
            "true": new[:8],
            "again": np.asarray(jax.jit(lambda z: likeliest(model.decode(z)))(z[:8])),
            "drawn": np.asarray(jax.jit(lambda z: warm(model.decode(z)))(codes)),
        }

    return Case(of)


def likeliest(p: Any) -> Any:
    """Return the likeliest moves of a density, in turn where a move sees those before it."""
    return p.mean if isinstance(p, Sequence) else p.likeliest


def warm(p: Any) -> Any:
    """Return draws of a density at temperature 0.5."""
    key = jax.random.key(2)
    return p.sample(key, 0.5) if isinstance(p, Sequence) else p.heated(0.5).sample(key)


def pictures(path: Path, record: Mapping[str, Any], arrays: Arrays) -> bool:
    """Draw test drawings, the likeliest moves by their codes, and draws from the prior, a pair of lines a row."""
    lines = [("test", next(iter(arrays.values()))["true"][0])]
    lines += [(f"{name}: {what}", of[key][0]) for name, of in arrays.items() for key, what in SHOWN.items()]
    with figure(path, 9.6, 1.15 * len(lines)) as fig:
        grid = fig.subplots(len(lines), 8, squeeze=False)
        for line, (name, some) in zip(grid, lines, strict=True):
            for axes, steps in zip(line, some, strict=False):
                draw(axes, steps)
            line[0].set_title(name, fontsize=8, loc="left")
        headline(fig, record)
    return True


SHOWN = {"again": "by its code", "drawn": "draws"}


def draw(axes: Any, steps: np.ndarray) -> None:
    """Draw the strokes of (dx, dy, p), y downwards."""
    axes.axis("off")
    axes.set_aspect("equal")
    axes.invert_yaxis()
    end = np.flatnonzero(steps[:, 2] == 2)
    steps = steps[: end[0] + 1] if len(end) else steps
    at = np.concatenate([np.zeros((1, 2)), np.cumsum(steps[:, :2], axis=0)])
    for part in np.split(at, np.flatnonzero(steps[:, 2] == 1) + 2):
        axes.plot(part[:, 0], part[:, 1], "k-", lw=1)


def sources(data: Data) -> dict[str, Any]:
    """Return the digests of the drawings."""
    seen, new = drawings(StrokesProtocol(), data.folder)
    return {"omniglot strokes" if data.folder else "polygons": {"sha256": {"train": digest(seen), "test": digest(new)}}}


MIXTURE, NORMAL, NO_CODE = "mixture of 10", "one normal", "mixture of 10, no code"
IN_TURN, IN_TURN_ALONE = "in turn, mixture of 10", "in turn, mixture of 10, no code"
NATS = "negative_elbo_nats_per_step"
STUDY = Study(
    rows={
        IN_TURN: row(10, in_turn=True),
        IN_TURN_ALONE: row(10, coded=False, in_turn=True),
        MIXTURE: row(10),
        NORMAL: row(1),
        NO_CODE: row(10, coded=False),
    },
    protocol=StrokesProtocol(),
    metric=NATS,
    columns=("nll_nats_per_step", "kl_nats", "swapped_nats_per_step", "steps"),
    claims=(
        Claim(
            "nats per move, by the code alone minus in turn", lambda r: r[MIXTURE][NATS] - r[IN_TURN][NATS], low=0.0
        ),
        Claim(
            "nats per move, in turn without a code minus with one",
            lambda rows: rows[IN_TURN_ALONE][NATS] - rows[IN_TURN][NATS],
            low=0.0,
        ),
        Claim(
            "in turn: nats per move more by the code of another drawing",
            lambda rows: rows[IN_TURN]["swapped_nats_per_step"],
            low=0.0,
        ),
        Claim(
            "nats per move, one normal minus mixture", lambda rows: rows[NORMAL][NATS] - rows[MIXTURE][NATS], low=0.0
        ),
        Claim("nats per move, no code minus code", lambda rows: rows[NO_CODE][NATS] - rows[MIXTURE][NATS], low=0.0),
    ),
    figures=(pictures,),
    sources=sources,
    profiles={
        "smoke": Profile(
            1,
            {"drawings": 100, "test": 20, "steps": 10, "width": 12, "latent": 2, "epochs": 2},
            (IN_TURN,),
            "polygons, 2 epochs",
        ),
        "cpu": Profile(3),
        "long": Profile(3, {"drawings": 20_000, "epochs": 60, "width": 256, "latent": 64}),
    },
)
