"""From the bytes of a named set's files to its parts; arrays keep the values that are stored."""

import csv
import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8

from data.dataset import Parts
from data.errors import DataError
from data.files.formats import gunzip, parse_idx
from data.files.npz import parse_npz

Files = Mapping[str, bytes]


def entry(arrays: Mapping[str, np.ndarray], key: str, where: str) -> np.ndarray:
    """Return one array of an npz; DataError names the missing key and those there."""
    if key not in arrays:
        raise DataError(f"{where}: no array {key!r}; it holds {', '.join(arrays) or 'nothing'}")
    return arrays[key]


def mnist_like(files: Files) -> Parts:
    """Four idx files of the MNIST layout -> (n, 28, 28, 1) uint8 images with labels."""
    parts: Parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"
        x, y = parse_idx(files[images], images), parse_idx(files[labels], labels)
        if len(x) != len(y):
            raise DataError(f"{images} has {len(x)} images but {labels} has {len(y)} labels")
        parts[part] = (x[..., None], y)
    return parts


def binarized_packed(files: Files) -> Parts:
    """Bits packed along a row, keys train, valid, test -> (n, 28, 28, 1) uint8 of 0 and 1."""
    arrays = parse_npz(files["binarized_mnist_packed.npz"], "binarized_mnist_packed.npz")
    parts: Parts = {}
    for part, key in (("train", "train"), ("validation", "valid"), ("test", "test")):
        bits = np.unpackbits(entry(arrays, key, "binarized_mnist_packed.npz"), axis=1)[:, :784]
        parts[part] = (bits.reshape(-1, 28, 28, 1), None)
    return parts


def binarized_text(files: Files) -> Parts:
    """The three .amat texts (784 digits a row, one space between) -> (n, 28, 28, 1) uint8 of 0 and 1."""
    parts: Parts = {}
    for part, key in (("train", "train"), ("validation", "valid"), ("test", "test")):
        name = f"binarized_mnist_{key}.amat"
        text = np.frombuffer(files[name], np.uint8)
        if len(text) % 1568:
            raise DataError(f"{name}: truncated: {len(text)} bytes are not whole rows of 1,568")
        bits = text.reshape(-1, 784, 2)[:, :, 0] - ord("0")
        if bits.size and bits.max() > 1:
            raise DataError(f"{name}: it holds characters other than 0 and 1")
        parts[part] = (bits.reshape(-1, 28, 28, 1), None)
    return parts


def amat_text(x: UInt8[np.ndarray, "n 28 28 1"]) -> bytes:
    """Return the published text of binarised images: the inverse of `binarized_text` for one file."""
    text = np.full((len(x), 784, 2), ord(" "), np.uint8)
    text[:, :, 0] = x.reshape(len(x), 784) + ord("0")
    text[:, -1, 1] = ord("\n")
    return text.tobytes()


def _drawer_major(paper: np.ndarray) -> np.ndarray:
    """(class, drawer, 105, 105) bool, True = paper -> (drawer * class, 105, 105, 1) uint8, 1 = ink."""
    ink = np.logical_not(paper).astype(np.uint8)
    return np.ascontiguousarray(ink.swapaxes(0, 1)).reshape(-1, 105, 105, 1)


def _omniglot(background: np.ndarray, evaluation: np.ndarray) -> Parts:
    a, b, drawers = len(background), len(evaluation), background.shape[1]
    return {
        "train": (_drawer_major(background), np.tile(np.arange(a), drawers)),
        "test": (_drawer_major(evaluation), np.tile(np.arange(a, a + b), evaluation.shape[1])),
    }


def omniglot_npz(files: Files) -> Parts:
    """Two npz (key images: class, drawer, 105, 105, True = paper) -> 0/1 images with 1 = ink."""
    read = [
        entry(parse_npz(files[f"images_{k}.npz"], k), "images", f"images_{k}.npz") for k in ("background", "evaluation")
    ]
    return _omniglot(*read)


def omniglot_zip(files: Files) -> Parts:
    """The two original zip archives of PNG files -> the same arrays as the npz files give."""
    return _omniglot(*(drawings(files[f"images_{k}.zip"], k) for k in ("background", "evaluation")))


def omniglot_prepared(parts: Parts) -> Parts:
    """TFDS's prepared splits, (n, 105, 105, 3) uint8 with 255 = paper -> the 0/1 images, 1 = ink."""
    return {k: ((parts[k][0][..., :1] < 128).astype(np.uint8), parts[k][1]) for k in ("train", "test")}


def drawings(archive: bytes, where: str) -> np.ndarray:
    """Return (class, drawer, 105, 105) bool of an Omniglot zip, True = paper, classes by folder name."""
    from PIL import Image

    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as z:
            names = sorted(n for n in z.namelist() if n.endswith(".png"))
            images = [np.asarray(Image.open(io.BytesIO(z.read(n))).convert("1")) for n in names]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{where}: damaged zip archive ({error}); fetch it again") from None
    return np.stack(images).reshape(-1, 20, 105, 105)


def shrink(x: UInt8[np.ndarray, "n 105 105 1"]) -> UInt8[np.ndarray, "n 28 28 1"]:
    """Average 105 x 105 ink images over the exact area of 28 x 28 pixels -> uint8 0..255.

    A pixel spans 15/4 of the old ones; in quarters all weights are integers, so the sums (at most 225) are
    exact in float32 and the result does not depend on the machine.
    """
    quarters = np.arange(420)
    weights = np.zeros((28, 105), np.float32)
    np.add.at(weights, (quarters // 15, quarters // 4), 1)
    out = np.empty((len(x), 28, 28, 1), np.uint8)
    for start in range(0, len(x), 1024):
        block: Float[np.ndarray, "b 105 105"] = x[start : start + 1024, ..., 0].astype(np.float32)
        area = weights @ block @ weights.T
        out[start : start + 1024, ..., 0] = np.floor((area * 510 + 225) / 450)
    return out


def omniglot28(parts: Parts) -> Parts:
    """Return Omniglot parts with the images averaged to 28 x 28."""
    return {key: (shrink(x), y) for key, (x, y) in parts.items()}


def cifar10_binary(files: Files) -> Parts:
    """cifar-10-binary.tar.gz: records of 1 label byte and 3,072 channel-major pixels -> (n, 32, 32, 3)."""
    name = "cifar-10-binary.tar.gz"
    batches: dict[str, np.ndarray] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(gunzip(files[name], name))) as tar:
            for member in tar.getmembers():
                if member.name.endswith(".bin"):
                    file = tar.extractfile(member)
                    batches[member.name.rpartition("/")[2]] = np.frombuffer(file.read() if file else b"", np.uint8)
    except tarfile.TarError as error:
        raise DataError(f"{name}: damaged tar archive ({error}); fetch it again") from None
    parts: Parts = {}
    for part, keys in (
        ("train", [f"data_batch_{i}.bin" for i in range(1, 6)]),
        ("test", ["test_batch.bin"]),
    ):
        rows = np.concatenate([entry(batches, key, name) for key in keys]).reshape(-1, 3073)
        parts[part] = (rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0])
    return parts


def cifar10_subset(files: Files) -> Parts:
    """The npz with train_images, train_labels, test_images, test_labels."""
    name = "cifar10_subset.npz"
    a = parse_npz(files[name], name)
    return {p: (entry(a, f"{p}_images", name), entry(a, f"{p}_labels", name)) for p in ("train", "test")}


def frey_npz(files: Files) -> Parts:
    """The npz with key faces, (1965, 28, 20) uint8 in video order."""
    faces = entry(parse_npz(files["frey_faces.npz"], "frey_faces.npz"), "faces", "frey_faces.npz")
    return {"all": (faces[..., None], None)}


def frey_mat(files: Files) -> Parts:
    """The original frey_rawface.mat (key ff, 560 x 1965) -> the same array as the npz gives."""
    from scipy.io import loadmat

    try:
        columns = loadmat(io.BytesIO(files["frey_rawface.mat"]))["ff"]
    except (ValueError, KeyError, TypeError, OSError, NotImplementedError) as error:
        raise DataError(f"frey_rawface.mat: not the Matlab file with array 'ff' ({error})") from None
    return {"all": (np.ascontiguousarray(columns.T).reshape(-1, 28, 20, 1), None)}


def digits(content: bytes) -> Parts:
    """scikit-learn's digits.csv.gz: 64 values 0..16 and a label per row -> (n, 8, 8, 1) uint8."""
    rows = list(csv.reader(io.TextIOWrapper(gzip.GzipFile(fileobj=io.BytesIO(content)), "ascii")))
    table = np.array(rows, dtype=np.float32).astype(np.uint8)
    return {"all": (table[:, :64].reshape(-1, 8, 8, 1), table[:, 64])}
