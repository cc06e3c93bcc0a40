"""Noise taken off pictures, and holes filled: autoencoders beside total variation, non-local means, biharmonic filling.

Claim: On small pictures of one kind a denoising autoencoder comes closer to the clean ones than total variation and
    non-local means, and autoencoders fill a hole better than the biharmonic equation; those know no kind.
Source: Vincent et al. 2010 (denoising autoencoders), He et al. 2022 (masked autoencoders), Rezende et al. 2014 (filling
    by a VAE's chain of reconstructions). Baselines: scikit-image's denoise_tv_chambolle, denoise_nl_means and
    inpaint_biharmonic (extra `images`). No published number of this protocol; a comparison of this project's own.
Command: python -m experiments restoration --data-dir DATA
Cost: 12 rows, 3 seeds: 3 networks 784-512-128 on 10,000 Fashion-MNIST pictures, 20 epochs, a vision transformer.
Expected: an order, no number.
Caveats: Ours and the linear rows are fitted to clean pictures of the kind, and to this noise or these holes; the others
    see one picture each. Strengths of total variation and non-local means are the best of a few on 100 noisy training
    pictures. The linear rows are conditional means of a normal with the training pictures' mean and covariance, a
    baseline hard to beat at this size. Holes are 2 x 2 of the transformer's patches, a quarter of the picture.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reporting.plots import headline, named_rows
from experiments.running.claims import Claim, best
from experiments.running.quality import psnr_db, ssim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained_on
from models import ELBO, Denoising, Dense, Mirror, Model, ViT, posteriors
from models.likelihoods import NormalLikelihood
from models.objectives import Masked
from train import Config
from training.pictures.drawing import figure, is_image

SHOWN, TUNED = 8, 100  # pictures of the figure; on which strengths are chosen
STRENGTHS = (0.4, 0.6, 0.8, 1.0, 1.3)  # of smoothing, units of the noise
HOLE = 2  # patches along a side


class RestorationProtocol(NamedTuple):
    """What every row restores, and from what it learns."""

    dataset: str = "fashion_mnist"
    rows: int = 10_000
    test: int = 500
    noise: float = 0.25
    """standard deviation of normal noise on values in [0, 1]"""
    patch: int = 7
    """pixels along a side of a patch"""
    hidden: tuple[int, ...] = (512,)
    latent: int = 128
    epochs: int = 20
    masked_epochs: int = 8
    turns: int = 20
    """reconstructions, one after another, by which a VAE fills"""


class Damaged(NamedTuple):
    """Clean pictures to learn from, damaged ones to restore (both (n, h, w, c)); which values are known."""

    seen: np.ndarray
    new: np.ndarray
    known: np.ndarray


Restorer = Callable[[RestorationProtocol, int, Damaged], np.ndarray]
"""(protocol, seed, pictures) -> restored pictures, (n, h, w, c)"""


def holes(shape: tuple[int, ...], patch: int, rng: np.random.Generator) -> np.ndarray:
    """Return which values of pictures (n, h, w, c) are known: all but a square of 2 x 2 patches."""
    known = np.ones(shape, bool)
    for one in known:
        top, left = (patch * rng.integers(side // patch - HOLE + 1) for side in shape[1:3])
        one[top : top + HOLE * patch, left : left + HOLE * patch] = False
    return known


def hole_share(known: np.ndarray) -> float:
    """Return the area of a hole over that of the square on the pictures' shorter side."""
    return float((~known[0]).sum() / known.shape[3] / min(known.shape[1:3]) ** 2)


def row(restorer: Restorer, task: str, **facts: Any) -> Case:
    """Return the case of a way to restore; only values that were damaged count in PSNR."""

    def of(protocol: RestorationProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        shape = data.splits["train"].shape
        rng = np.random.default_rng(seed)
        x = data.x("train")
        seen = x[rng.permutation(len(x))[: protocol.rows]].reshape(-1, *shape)
        clean = data.x("test", protocol.test).reshape(-1, *shape)
        if task == "noise":
            known = np.zeros(clean.shape, bool)
            damaged = clean + protocol.noise * rng.standard_normal(clean.shape, np.float32)
        else:
            known = holes(clean.shape, protocol.patch, rng)
            damaged = np.where(known, clean, 0).astype(np.float32)
        restored = np.clip(restorer(protocol, seed, Damaged(seen, damaged, known)), 0, 1)
        restored = np.where(known, clean, restored)
        decibels = psnr_db(clean[~known], restored[~known])
        facts = {"rmse": 10 ** (-decibels / 20), "psnr_db": decibels, "ssim": ssim(clean, restored)}
        shown = {"clean": clean, "damaged": np.where(known | (task == "noise"), damaged, 0.5), "restored": restored}
        return facts | {name: pictures[:SHOWN] for name, pictures in shown.items()}

    return Case(of, **facts)


def unchanged(protocol: RestorationProtocol, seed: int, pictures: Damaged) -> np.ndarray:
    """Leave noise as it is; fill holes with the mean picture."""
    return np.where(pictures.known, pictures.new, pictures.seen.mean(0)) if pictures.known.any() else pictures.new


def smoothing(smooth: Callable[[np.ndarray, float], np.ndarray]) -> Restorer:
    """Return the restorer of a smoother (picture (h, w, c), strength), its strength chosen on training pictures."""

    def restorer(protocol: RestorationProtocol, seed: int, pictures: Damaged) -> np.ndarray:
        clean = pictures.seen[:TUNED]
        noisy = clean + protocol.noise * np.random.default_rng([seed, 1]).standard_normal(clean.shape)
        each = lambda x, strength: np.stack([smooth(one.astype(float), strength * protocol.noise) for one in x])
        chosen = min(STRENGTHS, key=lambda s: np.square(np.clip(each(noisy, s), 0, 1) - clean).mean())
        return each(pictures.new, chosen)

    return restorer


def total_variation(x: np.ndarray, strength: float) -> np.ndarray:
    """Return what has less total variation."""
    from skimage.restoration import denoise_tv_chambolle

    return np.asarray(denoise_tv_chambolle(x, weight=strength, channel_axis=-1))


def non_local(x: np.ndarray, strength: float) -> np.ndarray:
    """Return means of like surroundings, of 5 x 5 pixels, at most 6 pixels apart."""
    from skimage.restoration import denoise_nl_means

    return np.asarray(denoise_nl_means(x, 5, 6, h=strength, channel_axis=-1)).reshape(x.shape)


def biharmonic(protocol: RestorationProtocol, seed: int, pictures: Damaged) -> np.ndarray:
    """Fill holes by the solution of the biharmonic equation."""
    from skimage.restoration import inpaint_biharmonic

    pairs = zip(pictures.new, ~pictures.known.all(-1), strict=True)
    return np.stack([inpaint_biharmonic(x, hole, channel_axis=-1) for x, hole in pairs])


def linear(protocol: RestorationProtocol, seed: int, pictures: Damaged) -> np.ndarray:
    """Return conditional means of the normal that has the training pictures' mean and covariance."""
    flat = lambda x: x.reshape(len(x), -1).astype(float)
    seen, new, known = flat(pictures.seen), flat(pictures.new), flat(pictures.known) > 0
    mean, cov = seen.mean(0), np.cov(seen.T)
    out = new.copy()
    if not known.any():
        gain = np.linalg.solve(cov + protocol.noise**2 * np.eye(len(cov)), cov)
        out = mean + (new - mean) @ gain
    for pattern in np.unique(known, axis=0) if known.any() else ():
        at = (known == pattern).all(1)
        some = cov[np.ix_(pattern, pattern)] + 1e-3 * np.eye(pattern.sum())
        weight = np.linalg.solve(some, cov[np.ix_(pattern, ~pattern)])
        out[np.ix_(at, ~pattern)] = mean[~pattern] + (new[np.ix_(at, pattern)] - mean[pattern]) @ weight
    return out.reshape(pictures.new.shape)


def fitted(protocol: RestorationProtocol, seed: int, x: np.ndarray, model: Model, objective: Any, epochs: int) -> Any:
    """Return a model of pictures, trained."""
    config = Config(model=model, objective=objective, epochs=epochs, batch_size=min(100, len(x)), lr=1e-3)
    return trained_on(config, seed, x)


def dense(protocol: RestorationProtocol, posterior: Any, likelihood: Any) -> Model:
    """Return a dense model."""
    return Model(Dense(protocol.hidden), posterior=posterior, latent=protocol.latent, likelihood=likelihood)


def answers(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from pictures to their reconstructions."""
    compiled = jax.jit(lambda x: model.decode(model.encode(x).mean).mean)
    return lambda x: np.asarray(compiled(jnp.asarray(x, jnp.float32)))


def denoising(protocol: RestorationProtocol, seed: int, pictures: Damaged) -> np.ndarray:
    """Reconstruct by an autoencoder that was trained to undo the damage: this noise, or such a hole."""
    noise = not pictures.known.any()
    objective = Denoising("gaussian", protocol.noise) if noise else Denoising("block", hole_share(pictures.known))
    model = dense(protocol, posteriors.PointPosterior(), NormalLikelihood())
    return answers(fitted(protocol, seed, pictures.seen, model, objective, protocol.epochs))(pictures.new)


def variational(protocol: RestorationProtocol, seed: int, pictures: Damaged) -> np.ndarray:
    """Reconstruct by a VAE of clean pictures; holes by reconstructing, and filling them, again and again."""
    model = dense(protocol, posteriors.NormalPosterior(), NormalLikelihood("optimal"))
    again = answers(fitted(protocol, seed, pictures.seen, model, ELBO(), protocol.epochs))
    if not pictures.known.any():
        return again(pictures.new)
    x = unchanged(protocol, seed, pictures)
    for _ in range(protocol.turns):
        x = np.where(pictures.known, pictures.new, again(x))
    return x


def masked(protocol: RestorationProtocol, seed: int, pictures: Damaged) -> np.ndarray:
    """Fill holes by a masked autoencoder, which was trained with as many patches hidden."""
    height, width = pictures.new.shape[1:3]
    count = (height // protocol.patch) * (width // protocol.patch)
    vit = ViT(patch=protocol.patch, code="patches")
    model = Model(vit, decoder=Mirror(), posterior=posteriors.PointPosterior(), latent=16 * count)
    objective = Masked(share=HOLE**2 / count, visible=0.0)
    made = fitted(protocol, seed, pictures.seen, model, objective, protocol.masked_epochs)
    whole = made.encoder.patches.cut(jnp.asarray(pictures.known, jnp.float32)).min(2) > 0
    seen = jnp.argsort(~whole, axis=1, stable=True)[:, : count - HOLE**2]
    fill = jax.jit(lambda x, seen: made.decode(made.posterior(made.numbers(x, None, None, seen)).mean).mean)
    return np.asarray(fill(jnp.asarray(pictures.new), seen))


def gallery(path: Path, record: Mapping[str, Any], arrays: Any) -> bool:
    """Draw damaged pictures of seed 0, what every row makes of them, and the clean ones: noise left, holes right."""
    groups = {task: {n: a for n, a in arrays.items() if n.startswith(task)} for task in ("noise", "hole")}
    first = next(iter(arrays.values()))["clean"][0]
    if not is_image(first.shape[1:]):
        return False
    lines = 2 + max(map(len, groups.values()))
    with figure(path, 17.5, 0.6 * lines + 0.8) as fig:
        for axes, (task, rows) in zip(fig.subplots(1, 2), groups.items(), strict=True):
            some = next(iter(rows.values()))
            kept = {} if task == "noise" else {task: some["damaged"][0]}
            for name, found in rows.items():
                decibels = np.mean(record["rows"][name]["metrics"]["psnr_db"])
                kept[f"{name.split(': ')[1]} {decibels:.1f} dB"] = found["restored"][0]
            named_rows(axes, kept | {"clean": some["clean"][0]}, len(some["clean"][0]))
        headline(fig, record)
    return True


NOISY, TV, LOCAL, LINEAR, DAE, VAE = (
    f"noise: {name}"
    for name in ("as it is", "total variation", "non-local means", "linear", "denoising autoencoder", "VAE")
)
MEAN, BIHARMONIC, LINEAR_FILL, DAE_FILL, VAE_FILL, MASKED = (
    f"hole: {name}"
    for name in ("mean picture", "biharmonic", "linear", "denoising autoencoder", "VAE", "masked autoencoder")
)


def ahead(ours: tuple[str, ...], others: tuple[str, ...]) -> Callable[[Any], Any]:
    """Return the PSNR of the best of ours minus that of the best of others, per seed."""
    of = lambda rows, names: best(rows, names, "psnr_db", most=True)
    return lambda rows: of(rows, ours) - of(rows, others)


STUDY = Study(
    rows={
        NOISY: row(unchanged, "noise"),
        TV: row(smoothing(total_variation), "noise", needs="images"),
        LOCAL: row(smoothing(non_local), "noise", needs="images"),
        LINEAR: row(linear, "noise"),
        DAE: row(denoising, "noise", bound=TV),
        VAE: row(variational, "noise", bound=TV),
        MEAN: row(unchanged, "hole"),
        BIHARMONIC: row(biharmonic, "hole", needs="images"),
        LINEAR_FILL: row(linear, "hole"),
        DAE_FILL: row(denoising, "hole", bound=BIHARMONIC),
        VAE_FILL: row(variational, "hole", bound=BIHARMONIC),
        MASKED: row(masked, "hole", bound=BIHARMONIC),
    },
    protocol=RestorationProtocol(),
    metric="rmse",
    columns=("psnr_db", "ssim"),
    claims=(
        Claim("noise: the denoising autoencoder over TV and non-local means, dB", ahead((DAE,), (TV, LOCAL)), low=0.0),
        Claim("noise: the denoising autoencoder over the linear row, dB", ahead((DAE,), (LINEAR,)), low=0.0),
        Claim(
            "hole: the best of ours over the biharmonic equation, dB",
            ahead((DAE_FILL, VAE_FILL, MASKED), (BIHARMONIC,)),
            low=0.0,
        ),
        Claim(
            "hole: the best of ours over the linear row, dB",
            ahead((DAE_FILL, VAE_FILL, MASKED), (LINEAR_FILL,)),
            low=0.0,
        ),
    ),
    figures=(gallery, "intervals"),
    profiles={
        "smoke": Profile(
            1,
            {"dataset": "digits", "rows": 400, "test": 40, "patch": 2, "hidden": (64,), "latent": 32}
            | {"epochs": 40, "turns": 3},
            (NOISY, TV, LINEAR, DAE, BIHARMONIC, LINEAR_FILL, VAE_FILL),
            "digits of 8 x 8, narrow networks",
        ),
        "cpu": Profile(3),
        "long": Profile(5, {"rows": 50_000, "test": 5000, "hidden": (1024,), "epochs": 100, "masked_epochs": 100}),
    },
)
