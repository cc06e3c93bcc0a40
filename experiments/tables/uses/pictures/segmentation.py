"""What is where: shapes and digits in scenes, by a linear probe on learned features with few labelled scenes.

Claim: With 20 labelled scenes a linear probe on features of an autoencoder's convolutions, trained on scenes without
    labels, cuts out and finds objects better than the same probe on as many pixels around, and than on features of
    random convolutions.
Source: no published number of this protocol; a comparison of this project's own. Jarrett et al. 2009 for how good
    features of random convolutions are.
Command: python -m experiments segmentation --data-dir DATA
Cost: 12 rows, 3 seeds: 6 networks, 2,000 scenes of 32 x 32 each, 12 epochs.
Expected: an order, no number.
Caveats: A cell is 4 x 4 pixels; the probe (softmax for every pixel of a cell, logistic for "an object of this class has
    its centre here") reads one cell's features, so that it is given context only by them; `pixels around` are the 12 x
    12 around a cell, about what two convolutions of 5 x 5 see. Scenes are generated: three shapes or three digits of 14
    to 16 pixels, later ones on top, under noise; digits are hardly told apart by any row, whose context is smaller than
    they are. Without --data-dir they are scikit-learn's, enlarged.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import data as sets
from data.dataset import digest
from data.sets import sprites
from experiments.reporting.plots import headline, named_rows
from experiments.running.claims import Claim, best
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained_on
from models import Conv, Denoising, Mirror, Model, Reconstruction, ViT, posteriors
from models.likelihoods import NormalLikelihood
from models.objectives import Masked
from train import Config, init
from training.examples import Examples
from training.pictures.drawing import figure

SIDE, CELL, AROUND, OBJECTS = 32, 4, 12, 3
STEPS = 300  # of a probe
CELLS = SIDE // CELL
SHOWN = 8  # scenes of a row in the figure


class SceneProtocol(NamedTuple):
    """What every row learns from and is tested on."""

    rows: int = 2_000
    """scenes without labels"""
    labelled: tuple[int, ...] = (5, 20, 50)
    """scenes with labels, from the least; all rows are compared at `at`"""
    at: int = 20
    test: int = 400
    noise: float = 0.1
    channels: tuple[int, ...] = (32, 64)
    latent: int = 64
    epochs: int = 12
    masked_epochs: int = 6


class Scenes(NamedTuple):
    """Scenes x (n, 32, 32, 1); what each pixel shows (n, 32, 32), 0 nothing; centres (n, cells, cells, classes)."""

    x: np.ndarray
    shows: np.ndarray
    centre: np.ndarray

    def first(self, n: int) -> "Scenes":
        """Return the first n."""
        return Scenes(*(a[:n] for a in self))


Objects = Callable[[str | None, str, np.random.Generator, int], tuple[np.ndarray, np.ndarray, int]]
"""(folder, split, generator, n) -> pictures of one object (n, side, side), its class (n,), the number of classes"""
Features = Callable[[SceneProtocol, int, np.ndarray], Callable[[np.ndarray], np.ndarray]]
"""(protocol, seed, scenes without labels) -> scenes (n, 32, 32, 1) -> features (n, cells, cells, numbers)"""


def shapes(folder: str | None, split: str, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return sprites, cut to the 16 pixels around their centre: squares, ellipses and triangles."""
    x, factors = sprites.generate()
    middle = (factors[:, 3] == 4) & (factors[:, 4] == 4)  # centred at pixel 15; scenes place them themselves
    some = np.flatnonzero(middle)[rng.integers(middle.sum(), size=n)]
    return x[some, 7:23, 7:23, 0] / 255.0, factors[some, 0], len(sprites.FACTORS["shape"])


def digits(folder: str | None, split: str, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return digits: MNIST's at half their size, or scikit-learn's at twice."""
    of = sets.load("mnist" if folder else "digits", folder).splits[split]
    some = rng.integers(len(of.x), size=n)
    x = np.asarray(of.x[some], float)[..., 0] / float(np.asarray(of.x).max())
    return (
        x.reshape(n, 14, 2, 14, 2).mean((2, 4)) if folder else x.repeat(2, 1).repeat(2, 2),
        np.asarray(of.y)[some],
        10,
    )


def scenes(objects: Objects, protocol: SceneProtocol, folder: str | None, split: str, seed: int, n: int) -> Scenes:
    """Return n scenes of objects of a split, each of its own brightness, later ones on top, under noise."""
    rng = np.random.default_rng([seed, split == "test"])
    pictures, kinds, classes = objects(folder, split, rng, n * OBJECTS)
    x, shows = np.zeros((n, SIDE, SIDE)), np.zeros((n, SIDE, SIDE), int)
    centre = np.zeros((n, CELLS, CELLS, classes), bool)
    side = pictures.shape[1]
    for i, (picture, kind) in enumerate(zip(pictures, kinds, strict=True)):
        scene = i // OBJECTS
        top, left = rng.integers(SIDE - side + 1, size=2)
        at = (scene, slice(top, top + side), slice(left, left + side))
        cover = np.minimum(1, 2 * picture)
        x[at] = (1 - cover) * x[at] + rng.uniform(0.5, 1) * picture
        shows[at] = np.where(picture > 0.3, kind + 1, shows[at])
        centre[scene, (top + side // 2) // CELL, (left + side // 2) // CELL, kind] = True
    x += protocol.noise * rng.standard_normal(x.shape)
    return Scenes(x[..., None].astype(np.float32), shows, centre)


def window(around: int) -> Features:
    """Return the pixels of a square of that side around each cell, zeros beyond the scene."""

    def features(protocol: SceneProtocol, seed: int, seen: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        edge = (around - CELL) // 2

        def of(x: np.ndarray) -> np.ndarray:
            padded = np.pad(x[..., 0], ((0, 0), (edge, edge), (edge, edge)))
            view = np.lib.stride_tricks.sliding_window_view(padded, (around, around), (1, 2))
            return view[:, ::CELL, ::CELL].reshape(len(x), CELLS, CELLS, -1)

        return of

    return features


def convolutional(objective: Any) -> Features:
    """Return the values after the last convolution of an encoder: trained with an objective, or random (None)."""

    def features(protocol: SceneProtocol, seed: int, seen: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        encoder = Conv(protocol.channels, kernel=5)
        model = Model(encoder, posterior=posteriors.PointPosterior(), latent=protocol.latent)
        made = fitted(protocol, seed, seen, model, objective, protocol.epochs)

        @jax.jit
        def maps(x: Any) -> Any:
            for block in made.encoder.convolutions:
                x = block(x, None)
            return x

        return lambda x: np.asarray(maps(jnp.asarray(x)))

    return features


def patches(protocol: SceneProtocol, seed: int, seen: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the code of every patch of a masked autoencoder, a small vision transformer."""
    vit = ViT(patch=CELL, code="patches", width=32)
    model = Model(
        vit,
        decoder=Mirror(),
        posterior=posteriors.PointPosterior(),
        latent=32 * CELLS**2,
        likelihood=NormalLikelihood(),
    )
    made = fitted(protocol, seed, seen, model, Masked(share=0.5), protocol.masked_epochs)
    codes = jax.jit(lambda x: made.encode(x).mean)
    return lambda x: np.asarray(codes(jnp.asarray(x))).reshape(len(x), CELLS, CELLS, -1)


def fitted(protocol: SceneProtocol, seed: int, x: np.ndarray, model: Model, objective: Any, epochs: int) -> Any:
    """Return a model of scenes, trained, or as it starts (no objective)."""
    examples = Examples(jnp.asarray(x))
    config = Config(
        model=model, objective=objective or Reconstruction(), epochs=epochs, batch_size=min(50, len(x)), lr=1e-3
    )
    if objective is None:
        return init(config, jax.random.key(seed), examples).model
    return trained_on(config, seed, examples)


@jax.jit
def probe(features: Any, pixels: Any, centre: Any) -> Any:
    """Return the weights (pixel's, centre's) of both probes on features (cells, numbers), the last of which is 1.

    pixels: one-hot (cells, pixels of a cell, classes + 1); centre: (cells, classes). Adam on both mean losses and 1e-4
    of the squared weights each.
    """
    width = features.shape[1]
    begin = (jnp.zeros((width, *pixels.shape[1:])), jnp.zeros((width, centre.shape[1])))
    rule = optax.adam(optax.cosine_decay_schedule(0.03, STEPS))

    def loss(w: Any) -> Any:
        shown = -jnp.mean(jnp.sum(pixels * jax.nn.log_softmax(jnp.tensordot(features, w[0], 1)), -1))
        found = jnp.mean(optax.sigmoid_binary_cross_entropy(features @ w[1], centre))
        return shown + found + 1e-4 * sum(jnp.sum(jnp.square(a)) for a in w)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        w, memory = carry
        updates, memory = rule.update(jax.grad(loss)(w), memory, w)
        return (optax.apply_updates(w, updates), memory), None

    return jax.lax.scan(step, (begin, rule.init(begin)), None, STEPS)[0][0]


def cells(a: np.ndarray) -> np.ndarray:
    """Return pixels (n, 32, 32) by cell, (n * cells, 16)."""
    return a.reshape(-1, CELLS, CELL, CELLS, CELL).swapaxes(2, 3).reshape(-1, CELL * CELL)


def joined(a: np.ndarray) -> np.ndarray:
    """Return the pixels that `cells` gives these of."""
    return a.reshape(-1, CELLS, CELLS, CELL, CELL).swapaxes(2, 3).reshape(-1, SIDE, SIDE)


def overlap(truth: np.ndarray, found: np.ndarray, classes: int) -> float:
    """Return the mean over classes 1 .. of intersection over union of all pixels."""
    each = [
        ((truth == k) & (found == k)).sum() / max(1, ((truth == k) | (found == k)).sum()) for k in range(1, classes)
    ]
    return float(np.mean(each))


def row(objects: Objects, features: Features, **facts: Any) -> Case:
    """Return the case of features of scenes of some objects."""

    def of(protocol: SceneProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        from sklearn.metrics import average_precision_score

        seen, new = (
            scenes(objects, protocol, data.folder, split, seed, n)
            for split, n in (("train", protocol.rows), ("test", protocol.test))
        )
        classes = seen.centre.shape[3]
        labelled = seen.first(max(protocol.labelled))
        made = features(protocol, seed, seen.x)
        at, unseen = made(labelled.x), made(new.x)
        mean, scale = at.mean((0, 1, 2)), at.std((0, 1, 2)) + 1e-3
        flat = lambda a: np.pad(((a - mean) / scale).reshape(-1, a.shape[3]), ((0, 0), (0, 1)), constant_values=1.0)
        out: dict[str, Any] = {"numbers": at.shape[3]}
        for n in protocol.labelled:
            some = labelled.first(n)
            target = cells(some.shows)[..., None] == np.arange(classes + 1)
            w, centre = probe(flat(at[:n]), target.astype(float), some.centre.reshape(-1, classes).astype(float))
            shows = joined(np.tensordot(flat(unseen), np.asarray(w), 1).argmax(-1))
            score = (flat(unseen) @ np.asarray(centre)).T
            precision = [
                average_precision_score(*p) for p in zip(new.centre.reshape(-1, classes).T, score, strict=True)
            ]
            out |= {f"iou_{n}": overlap(new.shows, shows, classes + 1), f"precision_{n}": np.mean(precision)}
            if n == protocol.at:
                out |= {"missing_iou": 1 - out[f"iou_{n}"], "iou": out[f"iou_{n}"], "precision": out[f"precision_{n}"]}
                out |= {"scene": new.x[:SHOWN, ..., 0], "truth": new.shows[:SHOWN], "found": shows[:SHOWN]}
        return out

    return Case(of, **facts)


def gallery(path: Path, record: Mapping[str, Any], arrays: Any) -> bool:
    """Draw scenes of seed 0, what every row finds in them, a colour a class, and what is there."""
    groups = {kind: {n: a for n, a in arrays.items() if n.startswith(kind)} for kind in KINDS}
    groups = {kind: rows for kind, rows in groups.items() if rows}
    lines = 2 + max(map(len, groups.values()))
    with figure(path, 9.6 * len(groups), 0.72 * lines + 0.8) as fig:
        for axes, (kind, rows) in zip(fig.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
            some = next(iter(rows.values()))
            pictures = {kind: some["scene"][0][..., None].repeat(3, 3)}
            for name, found in rows.items():
                overlap_ = np.mean(record["rows"][name]["metrics"]["iou"])
                pictures[f"{name.split(': ')[1]} {overlap_:.2f}"] = coloured(found["found"][0])
            pictures["truth"] = coloured(some["truth"][0])
            named_rows(axes, pictures, SHOWN)
        headline(fig, record)
    return True


def coloured(shows: np.ndarray) -> np.ndarray:
    """Return classes (n, h, w) as colours (n, h, w, 3), 0 black."""
    from matplotlib import colormaps

    colours = np.concatenate([np.zeros((1, 3)), colormaps["tab10"](np.arange(10))[:, :3]])
    return np.asarray(colours[shows.astype(int)])


def sources(data: Data) -> dict[str, Any]:
    """Return the digests of a few scenes of seed 0."""
    held = {k: scenes(objects, SceneProtocol(), data.folder, "test", 0, 20) for k, objects in KINDS.items()}
    return {f"scenes of {k}": {"sha256": {"x": digest(some.x)}} for k, some in held.items()}


KINDS: dict[str, Objects] = {"shapes": shapes, "digits": digits}
RAW: dict[str, Features] = {"pixels": window(CELL), "pixels around": window(AROUND)}
RANDOM = "random convolutions"
LEARNED: dict[str, Features] = {
    "convolutional autoencoder": convolutional(Reconstruction()),
    "denoising autoencoder": convolutional(Denoising("gaussian", 0.3)),
    "masked autoencoder": patches,
}


def ahead(kind: str, metric: str, others: tuple[str, ...]) -> Callable[[Any], Any]:
    """Return a metric of the best learned features minus that of the best of others, per seed."""
    of = lambda rows, names: best(rows, [f"{kind}: {name}" for name in names], metric, most=True)
    return lambda rows: of(rows, tuple(LEARNED)) - of(rows, others)


STUDY = Study(
    rows={
        f"{kind}: {name}": row(objects, features, bound=None if name in RAW else f"{kind}: pixels around")
        for kind, objects in KINDS.items()
        for name, features in (RAW | {RANDOM: convolutional(None)} | LEARNED).items()
    },
    protocol=SceneProtocol(),
    metric="missing_iou",
    columns=("iou", "precision", "iou_5", "iou_50", "precision_50", "numbers"),
    claims=tuple(
        Claim(f"{kind}: {word} of the best learned features minus {name}", ahead(kind, metric, others), low=0.0)
        for kind in KINDS
        for metric, word in (("iou", "IoU"), ("precision", "average precision"))
        for name, others in (("pixels", tuple(RAW)), ("random convolutions", (RANDOM,)))
    ),
    figures=(gallery, "intervals"),
    sources=sources,
    profiles={
        "smoke": Profile(
            1,
            {"rows": 100, "test": 20, "labelled": (20,), "channels": (4, 8), "epochs": 2},
            ("shapes: pixels around", f"shapes: {RANDOM}", "shapes: convolutional autoencoder", "digits: pixels"),
            "100 scenes, narrow networks, 2 epochs",
        ),
        "cpu": Profile(3),
        "long": Profile(5, {"rows": 20_000, "test": 2000, "epochs": 40, "masked_epochs": 40}),
    },
)
