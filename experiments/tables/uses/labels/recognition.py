"""Recognition from codes: which article of clothing, which file a piece of text is from, beside raw features.

Claim: Codes of 32 numbers recognise clothing as well as its pixels do; pieces of text they recognise far above chance,
    and behind counts of characters, which see the whole piece.
Source: no published number of this protocol; a comparison of this project's own. Speech stands in the table `speech`.
Command: python -m experiments recognition --data-dir DATA
Cost: 3 networks, 3 seeds: 784-256-32 on 10,000 images, 15 epochs; 4,000 texts, 6 epochs.
Expected: an ordering, no number: counts above codes for texts.
Caveats: One reader for all rows of a kind: 5 nearest neighbours (images), logistic regression (texts), fitted to all
    labels. Texts are pieces of 128 characters of eight files of Python's standard library, the last 30% of each is
    test; other Pythons have other files (digests are kept). Without --data-dir images are scikit-learn's digits.
"""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import data as sets
from data.dataset import digest
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained_on
from models import ELBO, Dense, Model, Reconstruction, Recurrent, Transformer, posteriors
from models.likelihoods import BernoulliLikelihood, TokensLikelihood
from train import Config
from training.examples import Examples

FILES = ("argparse", "_pydecimal", "tarfile", "turtle", "inspect", "mailbox", "doctest", "pdb")
LENGTH, SYMBOLS = 128, 128  # ASCII, 1 stands for all else


class RecognitionProtocol(NamedTuple):
    """What every row is trained and tested on."""

    images: int = 10_000
    test: int = 5_000
    hidden: int = 256
    latent: int = 32
    epochs: int = 15
    texts: int = 4_000
    width: int = 64
    text_epochs: int = 6


class Told(NamedTuple):
    """Examples and what they are: seen (n, ...), y (n,), new (m, ...), truth (m,)."""

    seen: np.ndarray
    y: np.ndarray
    new: np.ndarray
    truth: np.ndarray


Features = Callable[[RecognitionProtocol, Told, int], tuple[Any, Any]]
"""(protocol, known, seed) -> features of the seen and of the new examples"""


def images(protocol: RecognitionProtocol, folder: str | None, seed: int) -> Told:
    """Return flat images in [0, 1]: Fashion-MNIST of a folder, or digits."""
    splits = sets.load("fashion_mnist" if folder else "digits", folder).splits
    seen, new, n = splits["train"], splits["test"], protocol.test
    top = float(np.asarray(seen.x).max())
    some = np.random.default_rng(seed).permutation(len(seen.x))[: protocol.images]
    flat = lambda x: np.asarray(x).reshape(len(x), -1).astype(np.float32) / top
    return Told(flat(seen.x[some]), np.asarray(seen.y)[some], flat(new.x[:n]), np.asarray(new.y)[:n])


def texts(protocol: RecognitionProtocol, folder: str | None, seed: int) -> Told:
    """Return pieces of eight files as ASCII codes, (n, 128): the first 70% of each (a draw of all), and the rest."""
    seen, new = [], []
    for k, name in enumerate(FILES):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        codes = np.frombuffer(Path(spec.origin).read_bytes(), np.uint8)
        rows = np.where((codes < SYMBOLS) & (codes > 1), codes, 1)[: len(codes) // LENGTH * LENGTH].reshape(-1, LENGTH)
        cut = round(0.7 * len(rows))
        seen += [(row, k) for row in rows[:cut]]
        new += [(row, k) for row in rows[cut:]]
    some = np.random.default_rng(seed).permutation(len(seen))[: protocol.texts]
    stack = lambda pairs: (np.stack([row for row, _ in pairs]).astype(np.int32), np.array([k for _, k in pairs]))
    return Told(*stack([seen[i] for i in some]), *stack(new))


def row(source: Callable[..., Told], features: Features, reader: Callable[[], Any], bound: str | None = None) -> Case:
    """Return the case of a reader on features of a source."""

    def of(protocol: RecognitionProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        known = source(protocol, data.folder, seed)
        seen, new = features(protocol, known, seed)
        wrong = reader().fit(seen, known.y).predict(new) != known.truth
        chance = np.mean(known.truth != np.bincount(known.y).argmax())
        return {"wrong_percent": 100 * wrong.mean(), "commonest_wrong_percent": 100 * chance, "numbers": seen.shape[1]}

    return Case(of, bound=bound)


def nearest() -> Any:
    """Return the reader of images."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(5)


def logistic() -> Any:
    """Return the reader of texts."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    return make_pipeline(MaxAbsScaler(), LogisticRegression(C=10.0, max_iter=1000))


def raw(protocol: RecognitionProtocol, known: Told, seed: int) -> tuple[Any, Any]:
    """Return the examples themselves."""
    return known.seen, known.new


def components(protocol: RecognitionProtocol, known: Told, seed: int) -> tuple[Any, Any]:
    """Return as many principal components as codes have numbers."""
    from sklearn.decomposition import PCA

    pca = PCA(protocol.latent, random_state=seed).fit(known.seen)
    return pca.transform(known.seen), pca.transform(known.new)


def counts(most: int) -> Features:
    """Return how often every run of 1 to `most` characters stands in a piece, those in two pieces or more."""

    def features(protocol: RecognitionProtocol, known: Told, seed: int) -> tuple[Any, Any]:
        from sklearn.feature_extraction.text import CountVectorizer

        read = lambda rows: ["".join(map(chr, row)) for row in rows]
        found = CountVectorizer(analyzer="char", ngram_range=(1, most), lowercase=False, min_df=2)
        return found.fit_transform(read(known.seen)), found.transform(read(known.new))

    return features


def image_codes(point: bool) -> Features:
    """Return the mean codes of an autoencoder, or of a VAE."""

    def features(protocol: RecognitionProtocol, known: Told, seed: int) -> tuple[Any, Any]:
        posterior: Any = posteriors.PointPosterior() if point else posteriors.NormalPosterior()
        model = Model(
            encoder=Dense((protocol.hidden,)),
            latent=protocol.latent,
            posterior=posterior,
            likelihood=BernoulliLikelihood(),
        )
        objective: Any = Reconstruction("cross_entropy") if point else ELBO()
        return coded(Config(model=model, objective=objective, epochs=protocol.epochs, lr=2e-3), known, seed)

    return features


def text_codes(protocol: RecognitionProtocol, known: Told, seed: int) -> tuple[Any, Any]:
    """Return the mean codes of a VAE of texts: a transformer reads, a GRU writes and misses a third of the symbols."""
    model = Model(
        encoder=Transformer(width=protocol.width),
        decoder=Recurrent(width=protocol.width, drop_words=0.3),
        latent=protocol.latent,
        likelihood=TokensLikelihood(SYMBOLS),
    )
    config = Config(model=model, objective=ELBO(warmup_steps=200), epochs=protocol.text_epochs, batch_size=64, lr=2e-3)
    return coded(config, known, seed)


def coded(config: Config, known: Told, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean codes of seen and new examples by the trained config."""
    model = trained_on(config, seed, Examples(jnp.asarray(known.seen), (0.0, 1.0)))
    code = jax.jit(lambda x: model.encode(x).mean)
    part = lambda x: np.asarray(code(jnp.asarray(x, float)))
    whole = lambda x: np.concatenate([part(x[i : i + 500]) for i in range(0, len(x), 500)])
    return whole(known.seen), whole(known.new)


def sources(data: Data) -> dict[str, Any]:
    """Return the digests of seed 0's examples."""
    held = {"images": images(RecognitionProtocol(), data.folder, 0), "texts": texts(RecognitionProtocol(), None, 0)}
    return {name: {"sha256": {"x": digest(known.seen)}} for name, known in held.items()}


PIXELS, CHARACTERS, VAE, TEXT = "image: pixels", "text: characters", "image: VAE codes", "text: VAE codes"
STUDY = Study(
    rows={
        PIXELS: row(images, raw, nearest),
        "image: PCA": row(images, components, nearest, PIXELS),
        "image: autoencoder codes": row(images, image_codes(point=True), nearest, PIXELS),
        VAE: row(images, image_codes(point=False), nearest, PIXELS),
        CHARACTERS: row(texts, counts(1), logistic),
        "text: runs of 1 to 3": row(texts, counts(3), logistic, CHARACTERS),
        TEXT: row(texts, text_codes, logistic, CHARACTERS),
    },
    protocol=RecognitionProtocol(),
    metric="wrong_percent",
    columns=("commonest_wrong_percent", "numbers"),
    sources=sources,
    claims=(
        Claim(
            "images: wrong by pixels minus by VAE codes, points",
            lambda rows: rows[PIXELS]["wrong_percent"] - rows[VAE]["wrong_percent"],
            low=0.0,
        ),
        Claim(
            "texts: wrong by codes over wrong by the commonest answer",
            lambda rows: rows[TEXT]["wrong_percent"] / rows[TEXT]["commonest_wrong_percent"],
            high=0.7,
        ),
    ),
    profiles={
        "smoke": Profile(
            1,
            {"images": 300, "test": 100, "hidden": 16, "latent": 4, "epochs": 1}
            | {"texts": 130, "width": 8, "text_epochs": 1},
            (PIXELS, CHARACTERS, TEXT),
            "small networks, 1 epoch",
        ),
        "cpu": Profile(3),
    },
)
