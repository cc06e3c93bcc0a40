"""Missing values filled in: tables with 20 and 50 % of their cells hidden, and halves of digits.

Claim: What a VAE with a masked likelihood expects of hidden values is closer than column means, and at half the cells
    hidden at least as close as the nearest rows (k-NN).
Source: Mattei & Frellsen 2019, MIWAE (ICML), section 4: single imputation by self-normalised importance weights on
    small tables with half of the cells missing, beside means, k-NN and chained equations.
Command: python -m experiments imputation
Cost: 4 sets, 2 shares of hidden cells, 6 imputers, 3 seeds (each other cells hidden).
Expected: errors in deviations of a column, so means give about 1; sets and shares count alike in the mean.
Caveats: Sets of scikit-learn (wine, breast cancer, diabetes, digits), not the paper's. Every imputer is fitted to the
    incomplete rows that it fills in; chained equations keep within the values seen of a column, else they diverge on
    halves of digits. The encoder sees 0, a column's mean, at a hidden value, and beside it whether it is
    hidden; "not told" leaves that out: then only the likelihood knows the mask. A row keeps at least one value.
    "Shown less": in training the encoder is not shown a random part of what is seen either (a quarter of a table's
    cells, squares of half of a picture), which the likelihood judges: codes of unlike masks then agree. That is for
    few fixed masks; with cells hidden at random masks are many already.
"""

import functools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import train
from experiments.reporting.plots import headline, named_rows
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained_on
from models import ELBO, Dense, Model
from models.batch import Batch
from models.likelihoods import NormalLikelihood
from training.examples import Examples
from training.pictures.drawing import figure

TABLES = {"wine": "load_wine", "breast cancer": "load_breast_cancer", "diabetes": "load_diabetes"}
SHARES = (20, 50)
HALVES = "halves of digits"
PICTURES = 12
RANGE = (-1.5, 2.5)
"""what is drawn black and white, in the pixels' pooled deviation from their means"""


class ImputationProtocol(NamedTuple):
    """Rows, and the VAE that is fitted to each incomplete set."""

    rows: int = 1797
    """of every set, at most"""
    hidden: int = 64
    latent: int = 8
    steps: int = 3000
    sets: int = 3
    """so many tables, and the digits"""
    samples: int = 64
    """draws of a code, weighted by how well they explain what is seen"""


class Hidden(NamedTuple):
    """A set in deviations of its columns (those of seen values): all values (n, d), and which are seen."""

    x: np.ndarray
    seen: np.ndarray
    picture: bool

    @property
    def holed(self) -> np.ndarray:
        """The values with nan where they are hidden."""
        return np.where(self.seen, self.x, np.nan)

    @property
    def least(self) -> np.ndarray:
        """The least value seen in each column, 0 where none is, (d,)."""
        return np.where(self.seen.any(0), np.where(self.seen, self.x, np.inf).min(0), 0)

    @property
    def most(self) -> np.ndarray:
        """The greatest, a little above the least."""
        greatest = np.where(self.seen, self.x, -np.inf).max(0)
        return np.maximum(np.where(self.seen.any(0), greatest, 0), self.least + 1e-9)


def half(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return which values of 8x8 pictures are seen, (n, 64): one of four halves is not."""
    first = np.arange(8) < 4
    halves = np.stack([np.broadcast_to(m, (8, 8)).ravel() for m in (first, ~first, first[:, None], ~first[:, None])])
    return halves[rng.integers(4, size=n)]


def hide(name: str, share: int, seed: int, rows: int) -> Hidden:
    """Return a set with some values hidden: so many percent of the cells, or a half of every digit."""
    from sklearn import datasets

    rng = np.random.default_rng([seed, share, len(name)])
    x = np.asarray(getattr(datasets, TABLES.get(name, "load_digits"))().data, float)
    x = x[rng.permutation(len(x))[:rows]]
    seen = rng.random(x.shape) >= share / 100 if name in TABLES else half(rng, len(x))
    seen[np.arange(len(x)), rng.integers(x.shape[1], size=len(x))] |= ~seen.any(1)
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen, x, 0).sum(0) / count
    scale = np.sqrt(np.where(seen, np.square(x - mean), 0).sum(0) / count)
    pooled = 1 if name in TABLES else np.sqrt(np.mean(scale**2))  # pixels have one unit, and some never change
    return Hidden((x - mean) / (np.where(scale > 0, scale, 1) if name in TABLES else pooled), seen, name not in TABLES)


def by_vae(marks: Any, less: bool, protocol: ImputationProtocol, seed: int, some: Hidden) -> np.ndarray:
    """Return E[x | what is seen] by a VAE: means of decoded draws, weighted by p(seen | z) p(z) / q(z).

    marks: whether the encoder is told what is hidden. less: whether it is shown a part of what is seen in training.
    """
    n, size = len(some.x), min(64, len(some.x))
    shape = (8, 8, 1) if some.picture else some.x.shape[1:]
    model = Model(
        encoder=Dense((protocol.hidden,), "tanh"),
        latent=protocol.latent,
        likelihood=NormalLikelihood("learned"),
        marks=marks,
    )
    hide = ELBO(hide="block", hide_share=0.5) if some.picture else ELBO(hide="mask", hide_share=0.25)
    objective, epochs = hide if less else ELBO(), max(1, protocol.steps // max(1, n // size))
    config = train.Config(model=model, objective=objective, epochs=epochs, batch_size=size, lr=1e-3)
    x, mask = (a.reshape(n, *shape) for a in (np.where(some.seen, some.x, 0).astype(np.float32), some.seen))
    batch = Batch(jnp.asarray(x), None, jnp.asarray(mask))
    made = trained_on(config, seed, Examples(batch.x, mask=batch.mask))
    filled = jax.jit(functools.partial(expected, made, samples=protocol.samples))(batch)
    return np.asarray(filled).reshape(n, -1)


def expected(model: Any, batch: Batch, samples: int) -> Any:
    """Return the weighted mean of what draws of each code decode to, (n, *shape)."""
    q, prior = model.encode(model.sees(batch)), model.prior()

    def one(key: Any) -> tuple[Any, Any]:
        z = q.sample(key)
        p = model.decode(z)
        return p.mean, p.log_prob(batch.x, batch.mask) + prior.log_prob(z) - q.log_prob(z)

    mean, weight = jax.lax.map(one, jax.random.split(jax.random.key(0), samples))
    return jnp.einsum("kn,kn...->n...", jax.nn.softmax(weight, axis=0), mean)


def by_library(name: str, protocol: ImputationProtocol, seed: int, some: Hidden) -> np.ndarray:
    """Return what an imputer of scikit-learn fills in, with its defaults; equations stay within the values seen."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - what makes the next line work
    from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

    imputer = {
        "mean": SimpleImputer(keep_empty_features=True),
        "knn": KNNImputer(keep_empty_features=True),
        "iterative": IterativeImputer(
            random_state=seed, keep_empty_features=True, min_value=some.least, max_value=some.most
        ),
    }[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ten rounds of chained equations seldom converge
        return np.asarray(imputer.fit_transform(some.holed))


def row(fill: Any) -> Case:
    """Return the row of an imputer: its error on every set and share, and their means."""

    def of(protocol: ImputationProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        out = {}
        tables = list(TABLES)[: protocol.sets]
        for share, name in [(share, name) for share in SHARES for name in tables] + [(50, HALVES)]:
            some = hide(name, share, seed, protocol.rows)
            filled = np.where(some.seen, some.x, fill(protocol, seed, some))
            error = np.square(filled - some.x)[~some.seen]
            out[f"rmse_{name} {share}%" if name in TABLES else f"rmse_{name}"] = float(np.sqrt(error.mean()))
        part = lambda share: float(np.mean([v for k, v in out.items() if k.endswith(f"{share}%")]))
        mean = float(np.mean(list(out.values())))
        return (
            {"rmse": mean, "rmse_20_percent": part(20), "rmse_50_percent": part(50)}
            | out
            | {
                "filled": filled[:PICTURES],  # the last set: digits
                "holed": np.where(some.seen, some.x, 0)[:PICTURES],
                "true": some.x[:PICTURES],
            }
        )

    return Case(of)


def gallery(path: Path, record: Mapping[str, Any], arrays: Any) -> bool:
    """Draw halves of digits of the first seed as each row fills them."""
    first = lambda row, name: np.clip(np.asarray(arrays[row][name][0], float), *RANGE).reshape(-1, 8, 8, 1)
    one = next(iter(arrays))
    kept = {"a half hidden": first(one, "holed")}
    kept |= {f"{row} {record['rows'][row]['metrics'][f'rmse_{HALVES}'][0]:.2f}": first(row, "filled") for row in arrays}
    kept["true"] = first(one, "true")
    shown = {name: (x - RANGE[0]) / (RANGE[1] - RANGE[0]) for name, x in kept.items()}
    with figure(path, 9.0, 0.75 * len(kept) + 0.6) as fig:
        named_rows(fig.subplots(), shown, PICTURES)
        headline(fig, record)
    return True


VAE, BLIND, LESS = "VAE, weighted draws", "VAE, not told what is hidden", "VAE, shown less in training"
MEAN, KNN = "column means", "k nearest rows"


STUDY = Study(
    rows={
        VAE: row(functools.partial(by_vae, "on", False)),
        LESS: row(functools.partial(by_vae, "on", True)),
        BLIND: row(functools.partial(by_vae, "off", False)),
        MEAN: row(functools.partial(by_library, "mean")),
        KNN: row(functools.partial(by_library, "knn")),
        "iterative (ridge)": row(functools.partial(by_library, "iterative")),
    },
    protocol=ImputationProtocol(),
    metric="rmse",
    columns=("rmse_20_percent", "rmse_50_percent", f"rmse_{HALVES}"),
    claims=(
        Claim("error of column means minus the VAE's", lambda rows: rows[MEAN]["rmse"] - rows[VAE]["rmse"], low=0.0),
        Claim(
            "half of the cells hidden: error of the nearest rows minus the VAE's",
            lambda rows: rows[KNN]["rmse_50_percent"] - rows[VAE]["rmse_50_percent"],
            low=0.0,
        ),
        Claim(
            "halves of digits: error of column means minus that of the VAE shown less in training",
            lambda rows: rows[MEAN][f"rmse_{HALVES}"] - rows[LESS][f"rmse_{HALVES}"],
            low=0.0,
        ),
    ),
    figures=(gallery,),
    profiles={
        "smoke": Profile(
            1,
            {"rows": 60, "hidden": 8, "steps": 20, "sets": 1, "samples": 2},
            (VAE, LESS, BLIND, MEAN, KNN),
            "60 rows, 20 steps",
        ),
        "cpu": Profile(3),
    },
)
