"""Features from autoencoders for few labels: probes on codes, and fine-tuning of stacked denoising autoencoders.

Claim: With 100 labels a linear probe on codes is at least as good as one on raw pixels and on principal components, and
    a network that starts from stacked denoising autoencoders is better than the same network from random weights.
Source: Vincent et al. 2010, Stacked Denoising Autoencoders (JMLR 11), table 3: 1.28% wrong on MNIST with three
    layers fine-tuned on 50,000 labels; Erhan et al. 2010 for pre-training against random weights.
Command: python -m experiments features --data-dir DATA
Cost: 7 rows, 3 seeds, 10,000 MNIST images without labels, codes of 32, stack 784-256-128-64, 15 epochs each.
Expected: 1.28% only for the stack fine-tuned on every label in `--profile paper` (1,000 units a layer, 50,000 labels).
Caveats: Probes are logistic regression (scikit-learn, C = 1) on centred features of one common scale, for every row
    alike; labelled images are a part of the unlabelled ones, classes equally often.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import train
from experiments.reporting.plots import headline
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained_on
from models import ELBO, Denoising, Dense, Model, Objective, Reconstruction, posteriors
from models.likelihoods import BernoulliLikelihood
from training.examples import Examples
from training.pictures.drawing import figure

LABELS = (10, 100, 1000)
RATE = 3e-3
MASKED = Denoising("mask", 0.25, "cross_entropy")


class FeaturesProtocol(NamedTuple):
    """What every row is trained and tested on."""

    dataset: str = "mnist"
    rows: int = 10_000
    """training images; with all their labels in the last column"""
    test: int = 10_000
    hidden: tuple[int, ...] = (256,)
    latent: int = 32
    stack: tuple[int, ...] = (256, 128, 64)
    epochs: int = 15
    steps: int = 1000
    """of fine-tuning, 100 images each"""


class Pool(NamedTuple):
    """Images in [0, 1] and labels: seen (n, values), y (n,), new (m, values), truth (m,)."""

    seen: np.ndarray
    y: np.ndarray
    new: np.ndarray
    truth: np.ndarray


Features = Callable[[FeaturesProtocol, int, Pool], tuple[np.ndarray, np.ndarray]]
"""(protocol, seed, pool) -> features of the seen and of the new images"""


def pool(protocol: FeaturesProtocol, seed: int, data: Data) -> Pool:
    """Return the images of a seed: so many of the training split, drawn, and the first of the test split."""
    x, y = data.x("train"), data.y("train")
    some = np.random.default_rng(seed).permutation(len(x))[: protocol.rows]
    return Pool(x[some], y[some], data.x("test", protocol.test), data.y("test", protocol.test))


def labelled(y: np.ndarray, n: int) -> np.ndarray:
    """Return the first positions at which the classes are equally often there, about n in all."""
    each = max(1, n // len(np.unique(y)))
    return np.sort(np.concatenate([np.flatnonzero(y == k)[:each] for k in np.unique(y)]))


def amounts(y: np.ndarray) -> dict[str, np.ndarray]:
    """Return the labelled positions: {"wrong_10_percent": ..., "wrong_all_percent": ...}."""
    some = {f"wrong_{n}_percent": labelled(y, n) for n in LABELS if n < len(y)}
    return some | {"wrong_all_percent": np.arange(len(y))}


def probed(features: Features) -> Case:
    """Return the row of a linear probe on features."""

    def row(protocol: FeaturesProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        from sklearn.linear_model import LogisticRegression

        images = pool(protocol, seed, data)
        seen, new = features(protocol, seed, images)
        mean, scale = seen.mean(0), np.sqrt(seen.var(0).sum() / 32)
        seen, new = (seen - mean) / scale, (new - mean) / scale
        out = {}
        for name, at in amounts(images.y).items():
            found = LogisticRegression(max_iter=300).fit(seen[at], images.y[at]).predict(new)
            out[name] = 100 * float((found != images.truth).mean())
        return out

    return Case(row, bound=None if features is pixels else "pixels, probe")


def pixels(protocol: FeaturesProtocol, seed: int, images: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Return the images themselves."""
    return images.seen, images.new


def components(protocol: FeaturesProtocol, seed: int, images: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Return as many principal components as codes have units."""
    from sklearn.decomposition import PCA

    pca = PCA(protocol.latent, random_state=seed).fit(images.seen)
    return pca.transform(images.seen), pca.transform(images.new)


def fitted(x: np.ndarray, protocol: FeaturesProtocol, seed: int, model: Model, objective: Objective) -> Any:
    """Return a model trained on rows of numbers between 0 and 1."""
    batch = min(100, len(x))
    config = train.Config(model=model, objective=objective, epochs=protocol.epochs, batch_size=batch, lr=RATE)
    return trained_on(config, seed, x)


def coded(posterior: Any, objective: Objective) -> Features:
    """Return the codes of an autoencoder of the images."""

    def features(protocol: FeaturesProtocol, seed: int, images: Pool) -> tuple[np.ndarray, np.ndarray]:
        model = Model(
            encoder=Dense(protocol.hidden),
            posterior=posterior,
            latent=protocol.latent,
            likelihood=BernoulliLikelihood(),
        )
        made = fitted(images.seen, protocol, seed, model, objective)
        code = jax.jit(lambda x: made.encode(x).mean)
        return np.asarray(code(images.seen)), np.asarray(code(images.new))

    return features


def layer(width: int) -> Model:
    """Return one layer of a stack: sigmoids of an affine map, and back."""
    point = posteriors.PointPosterior("sigmoid")
    return Model(encoder=Dense(()), posterior=point, latent=width, likelihood=BernoulliLikelihood())


@functools.partial(jax.jit, static_argnums=0)
def through(graph: Any, state: Any, x: Any) -> Any:
    """Return the codes of the last layer of a stack, (n, units)."""
    for net in nnx.merge(graph, state):
        x = net.encode(x).mean
    return x


class Stacks:
    """The last stack that was trained: its two rows share it."""

    def __init__(self) -> None:
        self.last: tuple[Any, Any] = (None, None)

    def of(self, protocol: FeaturesProtocol, seed: int, images: Pool) -> Any:
        """Return autoencoders on top of each other, each trained to undo a mask on the codes of those below."""
        key = (protocol, seed, images.seen.tobytes())
        if self.last[0] != key:
            x, nets = images.seen, []
            for width in protocol.stack:
                nets.append(fitted(x, protocol, seed, layer(width), MASKED))
                x = np.asarray(jax.jit(lambda x, net=nets[-1]: net.encode(x).mean)(x))
            self.last = (key, nnx.split(nnx.List(nets)))
        return self.last[1]


STACKS = Stacks()


def stacked(protocol: FeaturesProtocol, seed: int, images: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of stacked denoising autoencoders."""
    nets = STACKS.of(protocol, seed, images)
    return np.asarray(through(*nets, images.seen)), np.asarray(through(*nets, images.new))


def blank(protocol: FeaturesProtocol, seed: int, images: Pool) -> Any:
    """Return the stack with random weights."""
    nets, width = [], images.seen.shape[1]
    for i, units in enumerate(protocol.stack):
        key = jax.random.fold_in(jax.random.key(seed), i)
        config = train.Config(model=layer(units), objective=MASKED, batch_size=1)
        nets.append(train.init(config, key, Examples(jnp.zeros((1, width)))).model)
        width = units
    return nnx.split(nnx.List(nets))


def tuned(start: Callable[[FeaturesProtocol, int, Pool], Any]) -> Case:
    """Return the row of a stack and a softmax layer, trained on labels from there."""

    def row(protocol: FeaturesProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        images = pool(protocol, seed, data)
        graph, state = start(protocol, seed, images)
        classes = int(images.y.max()) + 1
        run = functools.partial(fine_tuned, graph, classes, protocol.steps)
        out = {}
        for name, at in amounts(images.y).items():
            again = np.resize(at, len(images.y))  # of one length, for one program
            x, y = jnp.asarray(images.seen[again]), jnp.asarray(images.y[again])
            score = run(state, x, y, jax.random.key(seed), images.new)
            out[name] = 100 * float((np.asarray(score).argmax(1) != images.truth).mean())
        return out

    return Case(row, bound=None if start is blank else "random start, trained", paper=None if start is blank else 1.28)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def fine_tuned(graph: Any, classes: int, steps: int, state: Any, x: Any, y: Any, key: Any, new: Any) -> Any:
    """Return the logits of new images, (m, classes), after Adam (batches of 100) on the cross-entropy."""
    k_head, k_steps = jax.random.split(key)
    units = through(graph, state, x[:1]).shape[1]
    rule = optax.adam(RATE)
    params, rest = nnx.split_state(state, nnx.Param, ...)
    begin = (params, (0.01 * jax.random.normal(k_head, (units, classes)), jnp.zeros(classes)))
    logits = lambda p, x: through(graph, nnx.merge_state(p[0], rest), x) @ p[1][0] + p[1][1][None]

    def loss(p: Any, at: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(logits(p, x[at]), y[at]).mean()

    def step(carry: Any, key: Any) -> tuple[Any, None]:
        p, memory = carry
        updates, memory = rule.update(jax.grad(loss)(p, jax.random.randint(key, (100,), 0, len(x))), memory, p)
        return (optax.apply_updates(p, updates), memory), None

    (p, _), _ = jax.lax.scan(step, (begin, rule.init(begin)), jax.random.split(k_steps, steps))
    return logits(p, new)


def curves(path: Path, record: Mapping[str, Any], arrays: Any) -> bool:
    """Draw the share of wrong labels against the number of labels, every row a line, every seed a point."""
    with figure(path, 7.6, 4.6) as fig:
        axes = fig.subplots()
        rows = record["rows"]
        for i, (name, facts) in enumerate(rows.items()):
            found = {k: v for k, v in facts["metrics"].items() if k.startswith("wrong_")}
            place = [float(k.split("_")[1].replace("all", str(record["protocol"]["rows"]))) for k in found]
            place = [at * (1 + 0.02 * (i - len(rows) / 2)) for at in place]
            axes.plot(place, [np.mean(v) for v in found.values()], "-", color=f"C{i}", label=name)
            for at, values in zip(place, found.values(), strict=True):
                axes.plot([at] * len(values), values, ".", color=f"C{i}")
        axes.set(xscale="log", yscale="log", xlabel="labelled images", ylabel="wrong test labels, %")
        axes.legend(fontsize=8)
        headline(fig, record)
    return True


PIXELS, PCA_ROW, STACK, TUNED, RANDOM = (
    "pixels, probe", "PCA, probe", "stacked denoising, probe", "stacked denoising, fine-tuned", "random start, trained",
)  # fmt: skip
CODES: dict[str, Features] = {
    "autoencoder, probe": coded(posteriors.PointPosterior(), Reconstruction("cross_entropy")),
    "denoising autoencoder, probe": coded(posteriors.PointPosterior(), MASKED),
    "VAE, probe": coded(posteriors.NormalPosterior(), ELBO()),
    STACK: stacked,
}


def ahead(rows: Any) -> Any:
    """Return the wrong labels of the better of pixels and components minus those of the best codes, 100 labels."""
    wrong = lambda names: min((rows[name]["wrong_100_percent"] for name in names if name in rows), key=np.mean)
    return wrong((PIXELS, PCA_ROW)) - wrong(CODES)


STUDY = Study(
    rows={PIXELS: probed(pixels), PCA_ROW: probed(components)}
    | {name: probed(features) for name, features in CODES.items()}
    | {TUNED: tuned(STACKS.of), RANDOM: tuned(blank)},
    protocol=FeaturesProtocol(),
    metric="wrong_all_percent",
    columns=tuple(f"wrong_{n}_percent" for n in LABELS),
    claims=(
        Claim("100 labels: wrong by pixels or PCA minus by the best codes, points", ahead, low=0.0),
        Claim(
            "100 labels: wrong from random weights minus from the stack, points",
            lambda rows: rows[RANDOM]["wrong_100_percent"] - rows[TUNED]["wrong_100_percent"],
            low=0.0,
        ),
    ),
    figures=(curves,),
    profiles={
        "smoke": Profile(
            1,
            {"dataset": "digits", "rows": 300, "test": 100, "hidden": (16,), "latent": 4, "stack": (16, 8)}
            | {"epochs": 2, "steps": 20},
            (PIXELS, PCA_ROW, "VAE, probe", TUNED),
            "digits, small networks, 2 epochs",
        ),
        "cpu": Profile(3, differs="10,000 images and labels, 256-128-64 (1.28%: 50,000, three layers of 1,000)"),
        "paper": Profile(5, {"rows": 50_000, "stack": (1000, 1000, 1000), "epochs": 40, "steps": 20_000}),
    },
)
