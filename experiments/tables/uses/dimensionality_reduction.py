"""Two numbers for an image: maps by autoencoders beside PCA, t-SNE, UMAP and a self-organising map.

Claim: Neighbours in a deep autoencoder's plane share their class more often than in the plane of two principal
    components; and t-SNE and UMAP, which are made for neighbours, are more trustworthy than any autoencoder here.
Source: Hinton & Salakhutdinov 2006 (Science 313, figure 3: 2-d codes of a deep autoencoder beside PCA; a picture, no
    number). Trustworthiness and continuity: Venna & Kaski 2001. No published number of this protocol is at hand.
Command: python -m experiments dimensionality_reduction --data-dir DATA
Cost: 8 rows, 3 seeds, 3,000 images; networks 784-512-128-2, 60 epochs.
Expected: an order, no number: PCA, autoencoders, t-SNE and UMAP.
Caveats: All rows map the same images without labels, and are measured on these; `new_wrong_percent` is of test images,
    for the rows that can place them (t-SNE cannot). Settings are those that the libraries or sources ship, none was
    searched. A place in a self-organising map is its unit's, with noise of half a unit so that no two are one.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.reporting.plots import headline
from experiments.running.claims import Claim, best
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained_on
from models import ELBO, Denoising, Dense, Model, Reconstruction, posteriors, terms
from models.likelihoods import BernoulliLikelihood
from models.maps import som
from train import Config
from training.pictures.drawing import figure

NEIGHBOURS = 12


class MapProtocol(NamedTuple):
    """What every row maps."""

    dataset: str = "mnist"
    rows: int = 3_000
    """images that are mapped"""
    test: int = 1_000
    """new images"""
    hidden: tuple[int, ...] = (512, 128)
    epochs: int = 60
    side: int = 20
    """units along a side of the self-organising map"""


Places = tuple[np.ndarray, np.ndarray | None]
"""(n, 2) of the images, and (m, 2) of new ones where a method can place them"""
Mapper = Callable[[MapProtocol, np.ndarray, np.ndarray, int], Places]
"""(protocol, images (n, values), new images (m, values), seed) -> Places"""


def trustworthiness(x: np.ndarray, z: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Return 1 minus the scaled mean of how far off, in ranks, the k neighbours in z are in x; at most 1.

    Continuity is the same with x and z exchanged: how far off in the map the neighbours of the images are.
    """
    from sklearn.manifold import trustworthiness as of

    return float(of(x, z, n_neighbors=min(k, (len(x) - 1) // 2)))


def vote(z: np.ndarray, y: np.ndarray, at: np.ndarray | None = None, k: int = NEIGHBOURS) -> np.ndarray:
    """Return the commonest label of the k nearest of z at places (None: at each of z, itself left out)."""
    from scipy.stats import mode
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=k).fit(z).kneighbors(at, return_distance=False)
    return np.asarray(mode(y[near], axis=1).mode)


def row(mapper: Mapper, **facts: Any) -> Case:
    """Return the case of a way to map."""

    def of(protocol: MapProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        x, y = data.x("train"), data.y("train").astype(int)
        some = np.random.default_rng(seed).permutation(len(x))[: protocol.rows]
        x, y = x[some], y[some]
        new, truth = data.x("test", protocol.test), data.y("test", protocol.test)
        z, places = mapper(protocol, x, new, seed)
        out: dict[str, Any] = {
            "wrong_percent": 100 * float((vote(z, y) != y).mean()),
            "nearest_wrong_percent": 100 * float((vote(z, y, k=1) != y).mean()),
            "trustworthiness": trustworthiness(x, z),
            "continuity": trustworthiness(z, x),
            "map": z,
            "label": y,
        }
        if places is not None:
            out["new_wrong_percent"] = 100 * float((vote(z, y, places) != truth).mean())
        return out

    return Case(of, **facts)


def components(protocol: MapProtocol, x: np.ndarray, new: np.ndarray, seed: int) -> Places:
    """Map by the first two principal components."""
    from sklearn.decomposition import PCA

    pca = PCA(2, random_state=seed).fit(x)
    return pca.transform(x), pca.transform(new)


def tsne(protocol: MapProtocol, x: np.ndarray, new: np.ndarray, seed: int) -> Places:
    """Map by t-SNE (scikit-learn's settings: perplexity 30, starts from PCA); it places no new images."""
    from sklearn.manifold import TSNE

    return TSNE(random_state=seed).fit_transform(x), None


def umap(protocol: MapProtocol, x: np.ndarray, new: np.ndarray, seed: int) -> Places:
    """Map by UMAP (umap-learn's settings: 15 neighbours, least distance 0.1)."""
    import warnings

    with warnings.catch_warnings():  # that it has no TensorFlow, and that a seed leaves it one thread
        warnings.simplefilter("ignore")
        from umap import UMAP

        fitted = UMAP(random_state=seed).fit(x)
        return fitted.embedding_, fitted.transform(new)


def organised(protocol: MapProtocol, x: np.ndarray, new: np.ndarray, seed: int) -> Places:
    """Map by a self-organising map: row and column of the nearest unit, and a uniform draw of half a unit each way."""
    fitted = som(x, protocol.side, protocol.side, jax.random.key(seed))
    rng = np.random.default_rng(seed)
    within = lambda a: np.asarray(fitted.encode(a)) + rng.uniform(-0.5, 0.5, (len(a), 2))
    return within(x), within(new)


def learned(posterior: Any, objective: Any, *more: Any) -> Mapper:
    """Return the mapper of an autoencoder with two units."""

    def mapper(protocol: MapProtocol, x: np.ndarray, new: np.ndarray, seed: int) -> Places:
        model = Model(encoder=Dense(protocol.hidden), posterior=posterior, latent=2, likelihood=BernoulliLikelihood())
        batch = min(100, len(x))
        config = Config(model=model, objective=objective, terms=more, epochs=protocol.epochs, batch_size=batch, lr=1e-3)
        made = trained_on(config, seed, x)
        code = jax.jit(lambda x: made.encode(x).mean)
        return np.asarray(code(x)), np.asarray(code(new))

    return mapper


def maps(path: Path, record: Mapping[str, Any], arrays: Any) -> bool:
    """Draw every row's map of seed 0, a colour a class."""
    names = list(arrays)
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    with figure(path, 3.1 * columns, 3.2 * lines + 0.7) as fig:
        panels = fig.subplots(lines, columns, squeeze=False).ravel()
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        for axes, name in zip(panels, names, strict=False):
            z, y = (arrays[name][what][0] for what in ("map", "label"))
            for k in np.unique(y):
                axes.plot(*z[y == k].T, ".", markersize=2.2, alpha=0.7, color=f"C{int(k)}", label=f"{int(k)}")
            numbers = record["rows"][name]["metrics"]
            wrong, trust = (np.mean(numbers[m]) for m in ("wrong_percent", "trustworthiness"))
            axes.set_title(f"{name}\n{wrong:.1f}% wrong, trustworthiness {trust:.3f}", fontsize=9)
            axes.set(xticks=[], yticks=[])
        headline(fig, record)
        handles, words = panels[0].get_legend_handles_labels()
        fig.legend(handles, words, loc="outside lower center", ncols=10, markerscale=5, columnspacing=1)
    return True


PCA_ROW, TSNE, UMAP, AUTO = "PCA", "t-SNE", "UMAP", "autoencoder"
POINT, CROSS = posteriors.PointPosterior(), Reconstruction("cross_entropy")
LEARNED = {
    AUTO: learned(POINT, CROSS),
    "denoising autoencoder": learned(POINT, Denoising("mask", 0.25, "cross_entropy")),
    "contractive autoencoder": learned(POINT, CROSS, terms.Contractive(weight=0.1)),
    "VAE": learned(posteriors.NormalPosterior(), ELBO()),
}


def trust_lead(rows: Any) -> Any:
    """Return the trustworthiness of the better of t-SNE and UMAP minus that of the best autoencoder, per seed."""
    of = lambda names: best(rows, names, "trustworthiness", most=True)
    return of((TSNE, UMAP)) - of(tuple(LEARNED))


STUDY = Study(
    rows={
        PCA_ROW: row(components),
        "self-organising map": row(organised, bound=PCA_ROW),
        **{name: row(mapper, bound=PCA_ROW) for name, mapper in LEARNED.items()},
        TSNE: row(tsne, bound=AUTO),
        UMAP: row(umap, bound=AUTO, needs="umap"),
    },
    protocol=MapProtocol(),
    metric="wrong_percent",
    columns=("nearest_wrong_percent", "new_wrong_percent", "trustworthiness", "continuity"),
    claims=(
        Claim(
            "wrong by 12 neighbours in the plane: PCA minus the autoencoder, points",
            lambda rows: rows[PCA_ROW]["wrong_percent"] - rows[AUTO]["wrong_percent"],
            low=0.0,
        ),
        Claim("trustworthiness: the better of t-SNE and UMAP minus the best autoencoder", trust_lead, low=0.0),
    ),
    figures=(maps, "intervals"),
    profiles={
        "smoke": Profile(
            1,
            {"dataset": "digits", "rows": 200, "test": 100, "hidden": (32,), "epochs": 50, "side": 6},
            (PCA_ROW, "self-organising map", AUTO, "VAE", TSNE),
            "200 digits, a narrow network, 50 epochs",
        ),
        "cpu": Profile(3),
        "clothes": Profile(3, {"dataset": "fashion_mnist"}),
        "long": Profile(5, {"rows": 10_000, "test": 10_000, "hidden": (1000, 500, 250), "epochs": 200}),
    },
)
