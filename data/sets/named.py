"""The named sets: which files make them up, how these are read and checked, and how they are split."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

from data.dataset import Parts, digest
from data.sets import parsers
from data.splits import AsGiven, Blocks, Rule, TailOfTrain


@dataclasses.dataclass(frozen=True)
class Layout:
    """One way to hold a set in a folder.

    files: file names. read: their bytes -> parts. contents: None when the file's own SHA-256 is registered by
    TFDS; otherwise parts -> digests of what was read (name -> SHA-256), compared with `expected`, or with the
    registered digest of that name.
    """

    files: tuple[str, ...]
    read: Callable[[Mapping[str, bytes]], Parts]
    contents: Callable[[Parts], dict[str, str]] | None = None
    expected: Mapping[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Named:
    """A named set: its layouts in order of preference, split rule and facts.

    registry: the TFDS builder that registers its downloads, or None. folder: its folder's name when that is
    not the set's. from_prepared: from the splits of a prepared TFDS folder to the parts that files give.
    after: a change made to the parts once they are read and checked. origin: where to get the files when
    there is no registered download.
    """

    layouts: tuple[Layout, ...]
    rule: Rule
    labels: int | None
    registry: str | None = None
    range: tuple[int, int] = (0, 255)
    binarisation: Literal["none", "published"] = "none"
    folder: str | None = None
    from_prepared: Callable[[Parts], Parts] | None = None
    after: Callable[[Parts], Parts] | None = None
    origin: str = ""


_MNIST = Layout(
    tuple(f"{p}-{k}-ubyte.gz" for p in ("train", "t10k") for k in ("images-idx3", "labels-idx1")),
    parsers.mnist_like,
)
_AMAT = tuple(f"binarized_mnist_{k}.amat" for k in ("train", "valid", "test"))


def _amat_digests(parts: Parts) -> dict[str, str]:
    """Digests of the published texts, written again from the bits: packed files are checked against them."""
    return {f: digest(parsers.amat_text(x)) for f, (x, _) in zip(_AMAT, parts.values(), strict=True)}


def _array_digests(parts: Parts) -> dict[str, str]:
    """Digests of the images of each part, for sets that TFDS does not register."""
    return {f"{key} images": digest(x) for key, (x, _) in parts.items()}


_FREY = {"all images": "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78"}
_OMNIGLOT = {
    "train images": "c18169238552615bdd6b87101d787d6098310e1536aa363a342ab67e8b8d0429",
    "test images": "6f127e68851e977791c9a88b1c6d418c6bb0879221f8182ef618a064d0d5b9fc",
}
_SUBSET = {
    "train images": "fc115a3de050d667b88cbd5b0b9612ebf996c54230fe7758f3a14bb5af9a1c27",
    "test images": "da362006b99671213d1a5d856cab2bedf64d40bad4501630ee60f4ceb2d3ec7f",
}

_OMNIGLOT_LAYOUTS = (
    Layout(("images_background.zip", "images_evaluation.zip"), parsers.omniglot_zip),
    Layout(("images_background.npz", "images_evaluation.npz"), parsers.omniglot_npz, _array_digests, _OMNIGLOT),
)
# 1,928 = 2 drawers x 964 classes: raw files are read drawer by drawer
_OMNIGLOT_RULE = TailOfTrain(1928)

NAMED: dict[str, Named] = {
    "mnist": Named((_MNIST,), TailOfTrain(10000), 10, "mnist"),
    "fashion_mnist": Named((_MNIST,), TailOfTrain(10000), 10, "fashion_mnist"),
    "binarized_mnist": Named(
        (
            Layout(("binarized_mnist_packed.npz",), parsers.binarized_packed, _amat_digests),
            Layout(_AMAT, parsers.binarized_text),
        ),
        AsGiven(),
        None,
        "binarized_mnist",
        (0, 1),
        "published",
    ),
    "omniglot": Named(
        _OMNIGLOT_LAYOUTS,
        _OMNIGLOT_RULE,
        1623,
        "omniglot",
        (0, 1),
        "published",
        from_prepared=parsers.omniglot_prepared,
    ),
    "omniglot28": Named(
        _OMNIGLOT_LAYOUTS,
        _OMNIGLOT_RULE,
        1623,
        "omniglot",
        folder="omniglot",
        from_prepared=parsers.omniglot_prepared,
        after=parsers.omniglot28,
    ),
    "cifar10": Named((Layout(("cifar-10-binary.tar.gz",), parsers.cifar10_binary),), TailOfTrain(5000), 10, "cifar10"),
    "cifar10_subset": Named(
        (Layout(("cifar10_subset.npz",), parsers.cifar10_subset, _array_digests, _SUBSET),),
        TailOfTrain(1000),
        10,
        origin="the first 10,000 training and 1,000 test images of CIFAR-10 as one npz",
    ),
    "frey_faces": Named(
        (
            Layout(("frey_faces.npz",), parsers.frey_npz, _array_digests, _FREY),
            Layout(("frey_rawface.mat",), parsers.frey_mat, _array_digests, _FREY),
        ),
        Blocks(200, 200),
        None,
        origin="Sam Roweis' data page, frey_rawface.mat (Brendan Frey)",
    ),
}
