"""Bundled and generated sets, and the readers of named ones."""

import io
import json
import struct
import tarfile

import numpy as np
import pytest

import data
from data import splits
from data.errors import DataError
from data.sets import parsers, sprites

RNG = np.random.default_rng(0)


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    original, loaded = load_digits(), data.load("digits", labels=True)
    at = splits.Stratified(147, 450).indices(original.target)
    rest, test = train_test_split(np.arange(1797), test_size=450, random_state=0, stratify=original.target)
    np.testing.assert_array_equal(at["test"], test)
    np.testing.assert_array_equal(np.concatenate([at["train"], at["validation"]]), rest)
    for key, split in loaded.splits.items():
        np.testing.assert_array_equal(split.x[..., 0], original.images[at[key]])
        np.testing.assert_array_equal(split.y, original.target[at[key]])
        assert set(split.y.tolist()) == set(range(10))
    assert loaded.shape == (8, 8, 1)
    assert loaded.splits["train"].x.dtype == np.uint8
    assert (loaded.splits["train"].x.min(), loaded.splits["train"].x.max()) == loaded.range == (0, 16)


def test_record_is_json() -> None:
    record = data.load("digits").record()
    assert json.loads(json.dumps(record)) == record
    assert record["splits"] == {"train": 1200, "validation": 147, "test": 450}
    assert all(len(h) == 64 for h in record["sha256"].values())
    assert record["sha256"]


def test_sprites_follow_their_factors() -> None:
    x, factors = sprites.generate()
    sizes = [len(v) for v in sprites.FACTORS.values()]
    assert len({row.tobytes() for row in x}) == len(x) == np.prod(sizes)
    assert len(np.unique(factors, axis=0)) == len(x)
    mass = x[..., 0].astype(np.float64)
    area = mass.sum(axis=(1, 2))
    at = np.arange(sprites.SIZE) + 0.5
    centre = np.stack([(mass.sum(1) * at).sum(1) / area, (mass.sum(2) * at).sum(1) / area], axis=1)
    place = np.stack([np.array(sprites.FACTORS[k])[factors[:, i]] for k, i in (("x", 3), ("y", 4))], axis=1)
    offset = (centre - place).reshape(-1, sizes[3] * sizes[4], 2)
    np.testing.assert_allclose(offset - offset[:, :1], 0, atol=1e-12)  # x and y move the image, nothing else
    np.testing.assert_allclose(offset[:, 0], 0, atol=0.05)  # and they are its centre of mass, in pixels
    radius = np.array(sprites.FACTORS["scale"])[factors[:, 1]]
    unit_area = np.array([2.0, np.pi / 2, 3 * np.sqrt(3) / 4])[factors[:, 0]]
    unit_edge = np.array([4 * np.sqrt(2), 4.8442241, 3 * np.sqrt(3)])[factors[:, 0]]
    wrong = np.abs(area / 255 - unit_area * radius**2)
    assert np.all(wrong <= unit_edge * radius / 16)  # an edge is placed to half a sample, 1/16 pixel


def test_sprites_turn_counter_clockwise() -> None:
    x, factors = sprites.generate()
    triangle = (factors[:, 0] == 2) & (factors[:, 1] == 3) & (factors[:, 3] == 5) & (factors[:, 4] == 5)
    angles = []
    for image, row in zip(x[triangle, ..., 0], factors[triangle], strict=True):
        py, px = np.indices(image.shape)
        cx, cy = sprites.FACTORS["x"][row[3]], sprites.FACTORS["y"][row[4]]
        w = (px + 0.5 - cx) + 1j * -(py + 0.5 - cy)
        angles.append(np.angle((image * w**3).sum()) / 3)  # the third moment turns with the triangle
    np.testing.assert_allclose(
        np.unwrap(angles, period=2 * np.pi / 3) - angles[0], np.arange(8) * np.pi / 16, atol=0.02
    )


def test_sprites_dataset_exposes_factors() -> None:
    loaded = data.load("sprites")
    assert loaded.factor_names == ("shape", "scale", "orientation", "x", "y")
    split = loaded.splits["test"]
    np.testing.assert_array_equal(split.factors[:, 0], split.y)


def test_binarised_text_and_bits_agree() -> None:
    bits = RNG.integers(0, 2, (6, 28, 28, 1), dtype=np.uint8)
    keys = ("train", "valid", "test")
    texts = {f"binarized_mnist_{k}.amat": parsers.amat_text(bits[2 * i : 2 * i + 2]) for i, k in enumerate(keys)}
    assert next(iter(texts.values())).startswith(b"%d %d " % tuple(bits.reshape(-1)[:2]))
    found = parsers.binarized_text(texts)
    np.testing.assert_array_equal(np.concatenate([found[k][0] for k in ("train", "validation", "test")]), bits)
    with pytest.raises(DataError, match=r"binarized_mnist_valid.amat: truncated"):
        parsers.binarized_text(texts | {"binarized_mnist_valid.amat": b"0 1 0"})


def test_omniglot_shrinks_by_exact_area() -> None:
    x = RNG.integers(0, 2, (2, 105, 105, 1), dtype=np.uint8)
    fine = np.kron(x[..., 0], np.ones((4, 4), np.int64))  # 420 = 28 x 15 quarters of a pixel
    mean = fine.reshape(2, 28, 15, 28, 15).sum(axis=(2, 4)) / 225
    np.testing.assert_allclose(parsers.shrink(x)[..., 0], 255 * mean, atol=0.5 + 1e-9)


def test_tar_of_cifar10() -> None:
    rng, made, buffer = np.random.default_rng(0), {}, io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
            made[name] = (
                rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8),
                rng.integers(0, 10, 2, dtype=np.uint8),
            )
            x, y = made[name]
            content = b"".join(
                struct.pack("B", k) + image.transpose(2, 0, 1).tobytes() for image, k in zip(x, y, strict=True)
            )
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    parts = parsers.cifar10_binary({"cifar-10-binary.tar.gz": buffer.getvalue()})
    np.testing.assert_array_equal(parts["train"][0][2:4], made["data_batch_2"][0])
    np.testing.assert_array_equal(parts["test"][1], made["test_batch"][1])
