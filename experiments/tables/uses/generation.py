"""Generation by class, and between two images: does a classifier see what was asked for?

Claim: Images drawn for a class are taken for it more often when a VAE was given the classes (CVAE) than when normals of
    each class are drawn among principal components.
Source: Sohn et al. 2015 (conditional VAE, whose prior is conditional too); no published numbers of this protocol. A
    comparison of this project's own.
Command: python -m experiments generation --data-dir DATA
Cost: 4 networks, 3 seeds, 60 epochs of 10,000 MNIST images, 784-256-16.
Expected: test images themselves are the floor: what the classifier gets wrong of them.
Caveats: The judge is our own classifier (256-64) of the training images; distances are of its 64 features, not FID.
    Samples are decoded means; a method that repeats one image a class is right and poor, which recall shows. A CVAE's
    standard prior is independent of the class, its codes are not until it has trained for long (code_read_percent):
    then a draw for one class may hold another. Two ways out: a KL of weight 2, which makes it dear to say in the code
    what the label says, and a prior of each class.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reporting.plots import headline
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained_on
from models import ELBO, Dense, Model, priors
from models.codes import prior_codes
from models.metrics.samples.classifier import features_by
from models.metrics.samples.distances import frechet, precision_and_recall
from train import Config
from training.examples import Examples
from training.pictures.drawing import figure, tiles

SHOWN = 8  # images of a line between two


class GenerationProtocol(NamedTuple):
    """What every row is trained on and judged by."""

    dataset: str = "mnist"
    rows: int = 10_000
    hidden: tuple[int, ...] = (256,)
    latent: int = 16
    epochs: int = 60
    samples: int = 1000
    """images drawn, classes in turn, and test images beside them"""
    components: int = 5
    """normals of a class, where normals are fitted"""


class Judged(NamedTuple):
    """Flat images in [0, 1] and labels: seen (n, values), y (n,), new (m, values), truth (m,); a judge; their shape."""

    seen: np.ndarray
    y: np.ndarray
    new: np.ndarray
    truth: np.ndarray
    judge: tuple[Callable[[Any], np.ndarray], Callable[[Any], np.ndarray]]
    shape: tuple[int, ...]


class Generated(NamedTuple):
    """Samples for asked classes, (samples, values); and lines between pairs of images, (pairs, SHOWN, values)."""

    drawn: np.ndarray
    lines: np.ndarray
    codes: tuple[np.ndarray, np.ndarray] | None = None
    """of training and of test images, where there are codes"""


Maker = Callable[[GenerationProtocol, int, Judged, np.ndarray, np.ndarray], Generated]
"""(protocol, seed, images, asked (samples,), pairs (2, pairs) of test images of one class) -> Generated"""


@functools.lru_cache(1)
def judge_of(seen: bytes, y: bytes, width: int) -> Any:
    """Return the classifier of these images."""
    x = np.frombuffer(seen, np.float32).reshape(-1, width)
    return features_by(x, np.frombuffer(y, np.int64))


def images_of(protocol: GenerationProtocol, seed: int, data: Data) -> Judged:
    """Return so many training images of a seed, and the first test images."""
    x, y = data.x("train"), data.y("train").astype(np.int64)
    some = np.random.default_rng(seed).permutation(len(x))[: protocol.rows]
    judge = judge_of(x[: protocol.rows].tobytes(), y[: protocol.rows].tobytes(), x.shape[1])
    new, truth = data.x("test", protocol.samples), data.y("test", protocol.samples)
    return Judged(x[some], y[some], new, truth, judge, data.splits["train"].shape)


def pairs_of(truth: np.ndarray, seed: int) -> np.ndarray:
    """Return positions (2, m) of test images, each beside another one of its class."""
    rng = np.random.default_rng(seed)
    other = np.arange(len(truth))
    for k in np.unique(truth):
        at = rng.permutation(np.flatnonzero(truth == k))
        other[at] = np.roll(at, 1)
    return np.stack([np.arange(len(truth)), other])


def row(make: Maker) -> Case:
    """Return the case of a way to draw and to go between."""

    def of(protocol: GenerationProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        images = images_of(protocol, seed, data)
        features, classes = images.judge
        asked = np.arange(protocol.samples) % (images.y.max() + 1)
        pairs = pairs_of(images.truth, seed)
        made = make(protocol, seed, images, asked, pairs)
        real, drawn = features(images.new).astype(float), features(made.drawn).astype(float)
        precision, recall = precision_and_recall(drawn, real)
        middle = made.lines[:, SHOWN // 2]
        shaped = lambda a: a.reshape(*a.shape[:-1], *images.shape)
        read = {} if made.codes is None else {"code_read_percent": read_percent(images, *made.codes)}
        return read | {
            "wrong_percent": 100 * float((classes(made.drawn).argmax(1) != asked).mean()),
            "own_frechet": frechet(drawn, real),
            "precision": precision.mean(),
            "recall": recall.mean(),
            "middle_wrong_percent": 100 * float((classes(middle).argmax(1) != images.truth).mean()),
            "middle_frechet": frechet(features(middle).astype(float), real),
            "drawn": shaped(made.drawn[:10]),
            "line": shaped(made.lines[0]),
        }

    return Case(of)


def read_percent(images: Judged, seen: np.ndarray, new: np.ndarray) -> float:
    """Return the percentage of test images whose class a logistic regression reads from the code."""
    from sklearn.linear_model import LogisticRegression

    few = slice(5_000)
    return 100 * LogisticRegression(max_iter=500).fit(seen[few], images.y[few]).score(new, images.truth)


def between(ends: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the points of straight lines between rows of numbers, (pairs, SHOWN, numbers); SHOWN / 2 the middle."""
    t = np.append(np.linspace(0, 0.5, SHOWN // 2 + 1), np.linspace(0.5, 1, SHOWN // 2)[1:])[:, None]
    a, b = ends[pairs]
    return (1 - t) * a[:, None] + t * b[:, None]


def real(protocol: GenerationProtocol, seed: int, images: Judged, asked: np.ndarray, pairs: np.ndarray) -> Generated:
    """Return training images of the asked classes, and lines of crossfaded test images."""
    rng = np.random.default_rng(seed)
    drawn = [images.seen[rng.choice(np.flatnonzero(images.y == k))] for k in asked]
    return Generated(np.stack(drawn), between(images.new, pairs))


def normals(codes: np.ndarray, images: Judged, protocol: GenerationProtocol, asked: np.ndarray, seed: int) -> Any:
    """Return a draw for each asked class from normals fitted to the codes of that class, (samples, units)."""
    from sklearn.mixture import GaussianMixture

    out = np.empty((len(asked), codes.shape[1]))
    for k in np.unique(asked):
        mixture = GaussianMixture(protocol.components, reg_covar=1e-3, random_state=seed, max_iter=50)
        draws = mixture.fit(codes[images.y == k]).sample(int((asked == k).sum()))[0]
        out[asked == k] = np.random.default_rng(seed).permutation(draws)
    return out


def components(
    protocol: GenerationProtocol, seed: int, images: Judged, asked: np.ndarray, pairs: np.ndarray
) -> Generated:
    """Draw normals of each class among principal components."""
    from sklearn.decomposition import PCA

    pca = PCA(protocol.latent, random_state=seed).fit(images.seen)
    drawn = pca.inverse_transform(normals(pca.transform(images.seen), images, protocol, asked, seed))
    back = lambda z: np.clip(z @ pca.components_ + pca.mean_, 0, 1).astype(np.float32)
    both = pca.transform(images.seen), pca.transform(images.new)
    return Generated(np.clip(drawn, 0, 1).astype(np.float32), back(between(both[1], pairs)), both)


def fitted(protocol: GenerationProtocol, seed: int, images: Judged, given: bool, prior: Any, beta: float) -> Any:
    """Return a VAE of the images, given their classes or not."""
    classes = int(images.y.max()) + 1 if given else 0
    label = jnp.asarray(images.y, jnp.int32) if given else None
    examples = Examples(jnp.asarray(images.seen.reshape(-1, *images.shape)), label=label, classes=classes)
    labels: Any = "given" if given else "none"
    model = Model(encoder=Dense(protocol.hidden), latent=protocol.latent, labels=labels, prior=prior)
    batch = min(100, len(images.seen))
    config = Config(model=model, objective=ELBO(beta=beta), epochs=protocol.epochs, batch_size=batch, lr=2e-3)
    return trained_on(config, seed, examples)


def variational(given: bool, prior: Any = priors.StandardPrior(), beta: float = 1.0) -> Maker:
    """Return the maker of a VAE: given classes its prior is drawn, else normals of each class's codes."""

    def make(
        protocol: GenerationProtocol, seed: int, images: Judged, asked: np.ndarray, pairs: np.ndarray
    ) -> Generated:
        model = fitted(protocol, seed, images, given, prior, beta)
        shaped = lambda x: jnp.asarray(x.reshape(-1, *images.shape))
        label = lambda y: jnp.asarray(y, jnp.int32) if given else None
        encode = jax.jit(lambda x, y: model.encode(x, None, y).mean)
        decode = jax.jit(lambda z, y: model.decode(z, None, y).mean)
        flat = lambda z, y: np.asarray(decode(jnp.asarray(z, jnp.float32), label(y))).reshape(len(z), -1)
        seen = np.asarray(encode(shaped(images.seen), label(images.y)))
        new = np.asarray(encode(shaped(images.new), label(images.truth)))
        if given:
            codes = prior_codes(model, jax.random.key(seed), len(asked), label(asked))
        else:
            codes = normals(seen, images, protocol, asked, seed)
        points = between(new, pairs)
        lines = flat(points.reshape(-1, points.shape[-1]), np.repeat(images.truth, SHOWN))
        return Generated(flat(codes, asked), lines.reshape(*points.shape[:2], -1), (seen, new))

    return make


def pictures(path: Path, record: Mapping[str, Any], arrays: Any) -> bool:
    """Draw, of seed 0, ten samples of every row, classes in turn, and a line between two images of a class."""
    names = list(arrays)
    with figure(path, 10.0, 0.55 * len(names) + 1.1) as fig:
        both = fig.subplots(1, 2, width_ratios=(10, SHOWN))
        for axes, what, title in zip(both, ("drawn", "line"), ("drawn for 0, 1, 2, ...", "between two"), strict=True):
            rows = [arrays[name][what][0] for name in names]
            picture = tiles(np.concatenate(rows), len(rows), len(rows[0]))
            axes.imshow(picture, interpolation="nearest")
            axes.set(title=title, xticks=[])
            axes.grid(False)
            height = picture.shape[0] / len(rows)
            ticks = (np.arange(len(rows)) + 0.5) * height - 0.5
            axes.set_yticks(ticks, names if what == "drawn" else [""] * len(rows))
        headline(fig, record)
    return True


REAL, PCA_ROW, CVAE, TWICE, CLASSES, VAE = (
    "training images, crossfade",
    "PCA, normals of a class",
    "CVAE, its prior",
    "CVAE, KL of weight 2",
    "CVAE, a prior of each class",
    "VAE, normals of a class",
)
STUDY = Study(
    rows={
        REAL: row(real),
        PCA_ROW: row(components),
        VAE: row(variational(given=False))._replace(bound=PCA_ROW),
        CVAE: row(variational(given=True))._replace(bound=PCA_ROW),
        TWICE: row(variational(given=True, beta=2.0))._replace(bound=PCA_ROW),
        CLASSES: row(variational(given=True, prior=priors.LabelledPrior()))._replace(bound=PCA_ROW),
    },
    protocol=GenerationProtocol(),
    metric="wrong_percent",
    columns=("code_read_percent", "own_frechet", "precision", "recall", "middle_wrong_percent", "middle_frechet"),
    claims=(
        Claim(
            "taken for another class: PCA's normals minus the CVAE, points",
            lambda rows: rows[PCA_ROW]["wrong_percent"] - rows[CVAE]["wrong_percent"],
            low=0.0,
        ),
        Claim(
            "the same, a CVAE with a KL of weight 2",
            lambda rows: rows[PCA_ROW]["wrong_percent"] - rows[TWICE]["wrong_percent"],
            low=0.0,
        ),
        Claim(
            "the same, a CVAE with a prior of each class",
            lambda rows: rows[PCA_ROW]["wrong_percent"] - rows[CLASSES]["wrong_percent"],
            low=0.0,
        ),
    ),
    figures=("intervals", pictures),
    profiles={
        "smoke": Profile(
            1,
            {"dataset": "digits", "rows": 300, "hidden": (16,), "latent": 4, "epochs": 2, "samples": 100}
            | {"components": 1},
            (REAL, PCA_ROW, CVAE, CLASSES),
            "digits, 2 epochs of small networks",
        ),
        "cpu": Profile(3),
        "long": Profile(5, {"rows": 50_000, "hidden": (512, 256), "epochs": 100, "samples": 10_000}),
    },
)
