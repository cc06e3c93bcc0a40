"""Pictures as files: quantised codes of autoencoders beside JPEG, WebP and quantised principal components.

Claim: At 18 dB, small pictures of one kind take fewer bits as entropy-coded codes of a network that knows the kind than
    as JPEG or WebP, even where all pictures share one file and its header, and fewer than principal components do.
Source: Ballé et al. 2017 (End-to-end Optimized Image Compression), van den Oord et al. 2017 (VQ): quantised codes under
    an entropy coder. No published number for pictures of 28 x 28; a comparison of this project's own.
Command: python -m experiments image_compression --data-dir DATA
Cost: 8 rows, 3 seeds: 6 networks (784-256-code), 10,000 pictures, 20 epochs each.
Expected: an order, no number.
Caveats: Ours, VQ and PCA hold all test pictures in one file, of 8 bytes and the coder's words, under frequencies of the
    training codes; decoder and frequencies are not counted (`decoder_bits`, spread over the test pictures alone), which
    a general format has no need of. JPEG and WebP stand as a file a picture, every byte counted, and as one sheet of
    all (each padded to a multiple of 16). Encoders are not run again: a file decodes to its reconstruction by the same
    machine. Bits per pixel at 18 dB lie between the rates that were tried, the least rate where all are better.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.reporting.plots import headline, named_rows
from experiments.running.claims import Claim, best
from experiments.running.quality import psnr_db, ssim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained_on
from models import ELBO, Dense, Model, Reconstruction, posteriors, priors
from models.likelihoods import NormalLikelihood
from models.metrics.compression.symbols import frequencies, read, written
from models.terms import Commitment
from train import Config
from training.pictures.drawing import figure, is_image

SHOWN = 10  # pictures of every row in the figure
QUALITIES = (1, 5, 10, 20, 35, 50, 75, 90)
STEPS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)


class CompressionProtocol(NamedTuple):
    """What every row is fitted to and compresses."""

    dataset: str = "fashion_mnist"
    rows: int = 10_000
    test: int = 1000
    """pictures that are compressed, the first of the test split"""
    hidden: tuple[int, ...] = (256,)
    latent: int = 32
    components: int = 64
    books: tuple[tuple[int, int], ...] = ((4, 64), (8, 128), (16, 256), (32, 256))
    """(places, entries) of each VQ autoencoder"""
    epochs: int = 20
    decibels: float = 18.0


class Pictures(NamedTuple):
    """Pictures in [0, 1], (n, height, width, channels): those to fit, those to compress."""

    seen: np.ndarray
    new: np.ndarray


class Coded(NamedTuple):
    """Files at one rate, and the pictures (n, height, width, channels) that they decode to."""

    files: list[bytes]
    back: np.ndarray
    decoder: int = 0
    """numbers of 32 bits that the receiver must hold beside the files"""


Codec = Callable[[CompressionProtocol, int, Pictures], Iterator[Coded]]
"""(protocol, seed, pictures) -> files at each rate"""


def row(codec: Codec, **facts: Any) -> Case:
    """Return the case of a codec: its rates and qualities, and the bits a pixel at the protocol's decibels."""

    def of(protocol: CompressionProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        shape = data.splits["train"].shape
        x, new = data.x("train"), data.x("test", protocol.test)
        some = np.random.default_rng(seed).permutation(len(x))[: protocol.rows]
        pictures = Pictures(x[some].reshape(-1, *shape), new.reshape(-1, *shape))
        pixels = len(new) * shape[0] * shape[1]
        points, backs, decoders = [], [], []
        for coded in codec(protocol, seed, pictures):
            bits = 8 * sum(map(len, coded.files)) / pixels
            points.append((bits, psnr_db(pictures.new, coded.back), ssim(pictures.new, coded.back)))
            backs.append(coded.back[:SHOWN])
            decoders.append(32 * coded.decoder / pixels)
        curve = np.asarray(points)
        order = np.argsort(curve[:, 0])
        curve, nearest = curve[order], order[np.argmin(abs(curve[order, 1] - protocol.decibels))]
        out = {"bits_per_pixel": bits_at(curve, protocol.decibels), "decoder_bits": max(decoders)}
        out |= {"least_bits": curve[0, 0], "psnr_at_least_db": curve[0, 1], "ssim_at_least": curve[0, 2]}
        for i, (bits, decibels, alike) in enumerate(curve):
            out |= {f"bits_{i}": bits, f"psnr_{i}_db": decibels, f"ssim_{i}": alike}
        return out | {"curve": curve, "back": backs[nearest], "original": pictures.new[:SHOWN]}

    return Case(of, **facts)


def bits_at(curve: np.ndarray, decibels: float) -> float:
    """Return the bits a pixel at a quality, from (rates, [bits, dB, ...]) in order of bits; inf where none reaches it.

    The logarithm of bits is linear between two rates, of those that no cheaper one is better than.
    """
    most = np.maximum.accumulate(curve[:, 1])
    keep = np.append(True, most[1:] > most[:-1])
    if most[-1] < decibels:
        return float("inf")
    return float(np.exp(np.interp(decibels, most[keep], np.log(curve[keep, 0]))))


def opened(content: bytes) -> np.ndarray:
    """Return the picture of a file, (height, width, channels) of 0 .. 255."""
    from PIL import Image

    found = np.asarray(Image.open(io.BytesIO(content)))
    return found if found.ndim == 3 else found[..., None]


def saved(picture: np.ndarray, kind: str, quality: int) -> bytes:
    """Return a picture (height, width, channels) of 0 .. 255 as a file."""
    from PIL import Image

    out, how = io.BytesIO(), {"optimize": True} if kind == "jpeg" else {"method": 6}
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(out, kind, quality=quality, **how)
    return out.getvalue()


def general(kind: str, sheet: bool) -> Codec:
    """Return the codec of a general format, a file a picture or one sheet of all."""

    def codec(protocol: CompressionProtocol, seed: int, pictures: Pictures) -> Iterator[Coded]:
        bytes_ = np.round(255 * pictures.new).astype(np.uint8)
        channels = bytes_.shape[3]
        back = lambda a: a[..., :channels].astype(np.float32) / 255
        for quality in QUALITIES:
            if sheet:
                file = saved(tiled(bytes_), kind, quality)
                yield Coded([file], back(untiled(opened(file), bytes_.shape)))
            else:
                files = [saved(one, kind, quality) for one in bytes_]
                yield Coded(files, back(np.stack([opened(file) for file in files])))

    return codec


def tiled(pictures: np.ndarray) -> np.ndarray:
    """Return pictures (n, h, w, c) as one, in rows of about √n, each filled up to multiples of 16 by its edge."""
    n, h, w, _ = pictures.shape
    side = int(np.ceil(np.sqrt(n)))
    fill = ((0, side * -(-n // side) - n), (0, -h % 16), (0, -w % 16), (0, 0))
    full = np.pad(pictures, fill, mode="edge")
    full = full.reshape(-1, side, *full.shape[1:]).swapaxes(1, 2)
    return full.reshape(full.shape[0] * full.shape[1], -1, full.shape[4])


def untiled(sheet: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the pictures of a sheet, of this shape."""
    n, h, w, _ = shape
    high, wide = h + -h % 16, w + -w % 16
    full = sheet.reshape(-1, high, sheet.shape[1] // wide, wide, sheet.shape[2]).swapaxes(1, 2)
    return full.reshape(-1, high, wide, sheet.shape[2])[:n, :h, :w]


def through_a_file(
    seen: np.ndarray, new: np.ndarray, decode: Callable[[np.ndarray], np.ndarray], decoder: int, levels: int = 0
) -> Coded:
    """Write the codes (n, places) of new pictures under the frequencies of the seen; decode what is read."""
    under = frequencies(seen, levels)
    file = written(under.nearest(new), under)
    back = np.clip(np.round(255 * decode(read(file, under))), 0, 255) / 255
    return Coded([file], back.astype(np.float32), decoder + under.log_p.size)


def quantised(
    seen: np.ndarray, new: np.ndarray, scale: float, decode: Callable[[np.ndarray], np.ndarray], decoder: int
) -> Iterator[Coded]:
    """Round codes to multiples of each step of `STEPS`, in units of a scale."""
    for step in (scale * s for s in STEPS):
        whole = lambda z, step=step: np.round(z / step).astype(int)
        yield through_a_file(whole(seen), whole(new), lambda k, step=step: decode(k * step), decoder)


def components(protocol: CompressionProtocol, seed: int, pictures: Pictures) -> Iterator[Coded]:
    """Code principal components."""
    from sklearn.decomposition import PCA

    flat = lambda x: x.reshape(len(x), -1)
    pca = PCA(protocol.components, random_state=seed).fit(flat(pictures.seen))
    decode = lambda z: pca.inverse_transform(z).reshape(-1, *pictures.new.shape[1:])
    z, new = pca.transform(flat(pictures.seen)), pca.transform(flat(pictures.new))
    return quantised(z, new, float(z.std(0)[:32].mean()), decode, pca.components_.size + pca.mean_.size)


def fitted(protocol: CompressionProtocol, seed: int, x: np.ndarray, posterior: Any, latent: int) -> Any:
    """Return an autoencoder of pictures on squared error; of codes with a density, the bound of a fitted noise."""
    discrete = isinstance(posterior, posteriors.VQPosterior)
    density = isinstance(posterior, posteriors.NormalPosterior)
    model = Model(
        encoder=Dense(protocol.hidden),
        posterior=posterior,
        latent=latent,
        prior=priors.CodesPrior() if discrete else priors.StandardPrior(),
        likelihood=NormalLikelihood("optimal") if density else NormalLikelihood(),
    )
    config = Config(
        model=model,
        objective=ELBO() if density else Reconstruction(),
        terms=(Commitment(),) if discrete else (),
        epochs=protocol.epochs,
        batch_size=min(100, len(x)),
        lr=2e-3,
    )
    return trained_on(config, seed, x)


def halves(model: Any) -> tuple[Any, Any, int]:
    """Return a model's posterior of pictures and mean picture of codes, compiled, and the decoder's numbers."""
    decode = jax.jit(lambda z: model.decode(z).mean)
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model.decoder)))
    return jax.jit(lambda x: model.encode(x)), lambda z: np.asarray(decode(jnp.asarray(z, jnp.float32))), count


def rounded(posterior: Any) -> Codec:
    """Return the codec that rounds the mean codes of an autoencoder."""

    def codec(protocol: CompressionProtocol, seed: int, pictures: Pictures) -> Iterator[Coded]:
        encode, decode, count = halves(fitted(protocol, seed, pictures.seen, posterior, protocol.latent))
        z, new = (np.asarray(encode(x).mean) for x in pictures)
        return quantised(z, new, float(z.std(0).mean()), decode, count)

    return codec


def vector(protocol: CompressionProtocol, seed: int, pictures: Pictures) -> Iterator[Coded]:
    """Code the indices of VQ autoencoders, one a rate."""
    for places, entries in protocol.books:
        model = fitted(protocol, seed, pictures.seen, posteriors.VQPosterior(entries=entries, width=4), 4 * places)
        encode, decode, count = halves(model)
        seen, new = (np.asarray(encode(x).indices).reshape(len(x), -1) for x in pictures)
        lookup: Any = model.posterior_module
        entry = lambda k, lookup=lookup, decode=decode: decode(lookup.lookup(jnp.asarray(k)))
        yield through_a_file(seen, new, entry, count + 4 * entries, entries)


def rate_distortion(path: Path, record: Mapping[str, Any], arrays: Any) -> bool:
    """Draw PSNR and SSIM against bits a pixel, a line a row, and below the pictures of every row near the target."""
    rows = {name: found for name, found in arrays.items() if is_image(found["back"][0].shape[1:])}
    with figure(path, 11.0, 4.2 + 0.62 * (len(rows) + 1)) as fig:
        above, below = fig.subfigures(2, 1, height_ratios=(4.2, 0.62 * (len(rows) + 1)))
        for axes, (column, name) in zip(above.subplots(1, 2), ((1, "PSNR, dB"), (2, "SSIM")), strict=True):
            for i, (row, found) in enumerate(arrays.items()):
                for seed, curve in enumerate(found["curve"]):
                    line = {"color": f"C{i}", "alpha": 0.7, "markersize": 3, "linewidth": 1}
                    axes.plot(curve[:, 0], curve[:, column], "o-", label=None if seed else row, **line)
            axes.set(xscale="log", xlabel="bits per pixel, whole files", ylabel=name)
            if column == 1:
                axes.axhline(record["protocol"]["decibels"], color="#bbbbbb", linewidth=1)
        above.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
        kept = {"original": next(iter(rows.values()))["original"][0]}
        for row, found in rows.items():
            curve = found["curve"][0]
            bits, decibels, _ = curve[np.argmin(abs(curve[:, 1] - record["protocol"]["decibels"]))]
            kept[f"{row}: {bits:.2f} bits, {decibels:.1f} dB"] = found["back"][0]
        named_rows(below.subplots(), kept, len(kept["original"]))
        headline(fig, record)
    return True


SHEETS = ("JPEG, one sheet", "WebP, one sheet")
PCA_ROW, AUTO, VAE, VQ = "PCA, rounded", "autoencoder, rounded", "VAE, rounded", "VQ autoencoder"


def ratio(rows: Any, others: tuple[str, ...]) -> Any:
    """Return the bits of the best of ours over those of the best of others, per seed."""
    return best(rows, (AUTO, VAE, VQ), "bits_per_pixel") / best(rows, others, "bits_per_pixel")


STUDY = Study(
    rows={
        "JPEG, a file a picture": row(general("jpeg", sheet=False), exact=True),
        "WebP, a file a picture": row(general("webp", sheet=False), exact=True),
        SHEETS[0]: row(general("jpeg", sheet=True), exact=True),
        SHEETS[1]: row(general("webp", sheet=True), exact=True),
        PCA_ROW: row(components, needs="compression"),
        AUTO: row(rounded(posteriors.PointPosterior()), bound=PCA_ROW, needs="compression"),
        VAE: row(rounded(posteriors.NormalPosterior()), bound=PCA_ROW, needs="compression"),
        VQ: row(vector, bound=PCA_ROW, needs="compression"),
    },
    protocol=CompressionProtocol(),
    metric="bits_per_pixel",
    columns=("least_bits", "psnr_at_least_db", "ssim_at_least", "decoder_bits"),
    claims=(
        Claim(
            "bits at one quality: the best of ours over JPEG and WebP as one sheet",
            lambda r: ratio(r, SHEETS),
            high=1.0,
        ),
        Claim(
            "bits at one quality: the best of ours over principal components", lambda r: ratio(r, (PCA_ROW,)), high=1.0
        ),
    ),
    figures=(rate_distortion, "intervals"),
    profiles={
        "smoke": Profile(
            1,
            {"dataset": "digits", "rows": 300, "test": 60, "hidden": (32,), "latent": 8, "components": 16}
            | {"books": ((4, 16),), "epochs": 100, "decibels": 10.0},
            (*SHEETS, PCA_ROW, AUTO, VQ),
            "digits of 8 x 8 at 10 dB, narrow networks",
        ),
        "cpu": Profile(3),
        "digits": Profile(3, {"dataset": "mnist"}),
        "colour": Profile(3, {"dataset": "cifar10", "hidden": (512,), "latent": 128, "components": 256}),
    },
)
