"""Formats, split rules, bundled sets and `file:`; nothing here needs the network, real files or TFDS."""

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data
from data import splits, stored
from data.errors import DataError
from data.files import formats
from data.tfds import tfrecord

RNG = np.random.default_rng(0)


def idx_bytes(array: np.ndarray) -> bytes:
    """Write the idx format from its description, independently of the reader."""
    kind = {"u1": 8, "i4": 12, "f4": 13, "f8": 14}[array.dtype.str[1:]]
    return (
        struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


def images(n: int = 20) -> np.ndarray:
    return RNG.integers(0, 256, (n, 4, 6), dtype=np.uint8)


def merged(loaded: data.Dataset, part: str = "x", y: np.ndarray | None = None) -> np.ndarray:
    """Undo the split of a `file:` set whose examples have the labels `y`."""
    n = sum(map(len, loaded.splits.values()))
    take = splits.divide(n, y, "random")[0]
    first = getattr(loaded.splits["train"], part)
    out = np.empty((n, *first.shape[1:]), first.dtype)
    for key, at in take.items():
        out[at] = getattr(loaded.splits[key], part)
    return out


def test_import_is_light() -> None:
    heavy = ["tensorflow", "tensorflow_datasets", "PIL", "sklearn", "grain", "jax", "scipy", "array_record"]
    code = f"import data, sys; print([m for m in {heavy} if m in sys.modules])"
    root = Path(__file__).parent.parent.parent
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@given(st.integers(10, 60), st.integers(3, 9))
@settings(max_examples=30, deadline=None)
def test_rules_partition_the_examples(n: int, k: int) -> None:
    x = np.arange(n)[:, None]
    every = [
        splits.Interleaved(k)({"all": (x, x[:, 0])}),
        splits.Blocks(2, k)({"all": (x[: 40 + k], x[: 40 + k, 0])}) if n >= 40 + k else None,
        splits.TailOfTrain(k)({"train": (x[:-2], x[:-2, 0]), "test": (x[-2:], x[-2:, 0])}) if n > k + 2 else None,
    ]
    for made in filter(None, every):
        found = np.concatenate([made[key].x[:, 0] for key in ("train", "validation", "test")])
        assert sorted(found) == list(range(len(found)))
        assert all(len(s) and (s.x[:, 0] == s.y).all() for s in made.values())


@given(st.integers(10, 200), st.booleans(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_three_way_uses_every_example_once(n: int, validation: bool, test: bool) -> None:
    sizes = {"train": n} | ({"validation": 7} if validation else {}) | ({"test": 5} if test else {})
    cuts, words = splits.three_way(sizes, "a set")
    used = sorted((part, i) for part, a, b in cuts.values() for i in range(a, b))
    assert used == sorted((part, i) for part, m in sizes.items() for i in range(m))
    assert all(b > a for _, a, b in cuts.values())
    assert words


@pytest.mark.parametrize("kind", ["u1", "i4", "f4", "f8"])
def test_idx_reads_what_was_written(kind: str) -> None:
    array = RNG.integers(0, 100, (3, 4, 5)).astype(kind)
    found = formats.parse_idx(idx_bytes(array), "a")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(formats.parse_idx(gzip.compress(idx_bytes(array)), "a"), array)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (idx_bytes(images())[:-1], "truncated"),
        (idx_bytes(images()) + b"x", "longer"),
        (idx_bytes(images())[:6], "truncated in the idx header"),
        (b"PNG, not idx", "not an idx file"),
        (gzip.compress(idx_bytes(images()), mtime=0)[:-20], "truncated"),
        (gzip.compress(idx_bytes(images()), mtime=0)[:12] + b"\xff" * 40, "damaged gzip"),
    ],
)
def test_damaged_idx_is_named(content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=f"^some/file: .*{says}"):
        formats.parse_idx(content, "some/file")


def test_file_idx_with_labels_beside(tmp_path: Path) -> None:
    x, y = images(), np.arange(20, dtype=np.uint8) % 3
    (tmp_path / "t-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(x)))
    (tmp_path / "t-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(y)))
    loaded = data.load(f"file:{tmp_path / 't-images-idx3-ubyte.gz'}", labels=True)
    np.testing.assert_array_equal(merged(loaded, y=y)[..., 0], x)
    np.testing.assert_array_equal(merged(loaded, "y", y), y)
    assert (loaded.shape, loaded.labels, loaded.range) == ((4, 6, 1), 3, (0, 255))


def test_file_npz_npy_csv(tmp_path: Path) -> None:
    table, y = RNG.normal(size=(20, 3)).astype(np.float32), np.arange(20) % 4
    np.savez(tmp_path / "a.npz", X=table, y=y)
    np.save(tmp_path / "a.npy", table)
    rows = [
        "a,b,c,label",
        *(",".join([*map(str, r), f"class{k}"]) for r, k in zip(table.tolist(), y, strict=True)),
    ]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    for name, classes in (("a.npz", 4), ("a.npy", None), ("a.csv", 4)):
        loaded = data.load(f"file:{tmp_path / name}")
        np.testing.assert_array_equal(merged(loaded, y=y if classes else None), table)
        assert (loaded.shape, loaded.labels) == ((3,), classes)
        assert loaded.range == (table.min(), table.max())
        if classes:
            np.testing.assert_array_equal(merged(loaded, "y", y), y)


def test_file_npz_with_splits_keeps_them(tmp_path: Path) -> None:
    x, y = images(30), np.array(["b", "a", "c"] * 10)
    np.savez(tmp_path / "a.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    loaded = data.load(f"file:{tmp_path / 'a.npz'}")
    np.testing.assert_array_equal(loaded.splits["test"].x[..., 0], x[20:])
    at = splits.divide(20, np.array([1, 0, 2] * 7)[:20], "random")[0]["validation"]
    np.testing.assert_array_equal(loaded.splits["validation"].x[..., 0], x[at])
    assert len(loaded.splits["train"]) == 18
    np.testing.assert_array_equal(loaded.splits["test"].y, (np.array([1, 0, 2] * 10))[20:])
    assert "given: train, test" in loaded.notes


def test_file_image_folder(tmp_path: Path) -> None:
    from PIL import Image

    x = images(12)
    for i, image in enumerate(x):
        place = tmp_path / ("cat", "ant")[i % 2]
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{i:02}.png")
    loaded = data.load(f"file:{tmp_path}", labels=True)
    y = np.repeat([0, 1], 6)
    np.testing.assert_array_equal(merged(loaded, y=y)[..., 0], np.concatenate([x[1::2], x[::2]]))
    np.testing.assert_array_equal(merged(loaded, "y", y), y)
    assert loaded.classes == ("ant", "cat")
    Image.fromarray(images(1)[0][:3]).save(tmp_path / "cat" / "smaller.png")
    with pytest.raises(DataError, match=r"cat/smaller.png is \(3, 6, 1\), ant/01.png is \(4, 6, 1\)"):
        data.load(f"file:{tmp_path}")
    (tmp_path / "cat" / "smaller.png").write_bytes((tmp_path / "cat" / "00.png").read_bytes()[:50])
    with pytest.raises(DataError, match=r"smaller.png: not a readable image"):
        data.load(f"file:{tmp_path}")


class Evil:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (open, (str(self.path), "w"))


def test_pickles_are_refused(tmp_path: Path) -> None:
    array = np.empty(1, object)
    array[0] = Evil(tmp_path / "made")
    np.savez(tmp_path / "a.npz", x=array)
    np.save(tmp_path / "a.npy", array)
    for name in ("a.npz", "a.npy"):
        with pytest.raises(DataError, match="never unpickled"):
            data.load(f"file:{tmp_path / name}")
    assert not (tmp_path / "made").exists()


def _save(folder: Path, name: str, content: object) -> None:
    if isinstance(content, dict):
        np.savez(folder / name, **content)
    elif isinstance(content, np.ndarray):
        np.save(folder / name, content)
    else:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.npz", {"pixels": images(), "more": images()}, r"2 arrays could be the examples; it holds pixels \(20"),
        ("a.npz", b"PK\x03\x04 cut", "numpy file"),
        ("a.npy", b"nonsense", "not a numpy file"),
        ("a.npy", b"", "empty"),
        ("a.npy", np.array([["a", "b"]]), "not numbers"),
        ("a.npy", np.zeros(5), "shape"),
        ("a.npy", np.zeros((0, 4)), "empty"),
        ("a.npy", np.zeros((5, 4)), "too few"),
        ("a.npy", np.zeros((20, 3, 32, 32)), "channels first"),
        ("a.npy", np.outer(np.arange(20), np.full(4, 1e300)), "too large to be standardised"),
        (
            "a.npy",
            np.where(np.arange(80).reshape(20, 4) == 13, np.inf, 1.0),
            r"1 of 80 .*inf at index \(3, 1\)",
        ),
        (
            "a.npy",
            np.where(np.arange(80).reshape(20, 4) // 4 == 3, np.nan, 1.0),
            "example 3: every value is missing; leave such out",
        ),
        ("a.npz", {"x": images(), "y": np.arange(19)}, "labels of shape"),
        ("a.npz", {"x_train": images(), "x_test": images()[:, :3]}, "differ in shape"),
        ("a.csv", "1,2\n3\n", "row 2 has 1 fields"),
        ("a.csv", "1,2\n3,x\n", "column '2', row 2: 'x' is not a number"),
        ("a.csv", "a,b\n", "no rows"),
        ("a.csv", "a,b\n1,\n", r"1 value is missing: b \(1\); the first is in row 2, column 'b'"),
        ("a.csv", "1,nan\n" * 20, r"20 values are missing: 2 \(20\)"),
        ("a.xyz", b"?", "of an unknown kind"),
    ],
)
def test_bad_files_are_one_line_and_named(tmp_path: Path, name: str, content: object, says: str) -> None:
    _save(tmp_path, name, content)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(DataError, match=says) as caught:
        data.load(f"file:{tmp_path / name}")
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "kwargs", "says"),
    [
        ("mnits", {}, "nearest: mnist, "),
        ("file:/no/such/file.npz", {}, "no such file"),
        ("tfds:", {}, "unknown data set"),
        ("digits", {"data_dir": "/no/such/folder"}, "'/no/such/folder' is not a folder"),
    ],
)
def test_bad_names(name: str, kwargs: dict, says: str) -> None:
    with pytest.raises(DataError, match=says):
        data.load(name, **kwargs)


def test_labels_missing_when_asked(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", images())
    with pytest.raises(DataError, match="no labels"):
        data.load(f"file:{tmp_path / 'a.npy'}", labels=True)


def test_stored_types() -> None:
    for given_, kind in (
        (np.bool_, np.uint8),
        (np.int64, np.uint8),
        (np.float64, np.uint8),
        (np.uint8, np.uint8),
    ):
        assert stored.as_stored(np.ones((2, 3, 3), given_), "a").dtype == kind
    assert stored.as_stored(np.full((2, 3), -1), "a").dtype == np.float32
    assert stored.as_stored(np.full((2, 3), 0.1), "a").dtype == np.float64  # float32 would round it
    assert stored.as_stored(np.full((2, 3), 0.5), "a").dtype == np.float32
    assert stored.facts_of([np.ones((2, 3, 3, 1), np.uint8)]) == ((0, 1), "published")
    assert stored.facts_of([np.full((2, 3, 3, 1), 0.5, np.float32)]) == ((0.0, 1.0), "none")


def test_write_is_whole_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "file"
    formats.write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        formats.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def record_bytes(content: bytes) -> bytes:
    head = struct.pack("<Q", len(content))
    return head + struct.pack("<I", tfrecord.masked_crc(head)) + content + struct.pack("<I", 0)


def test_crc_is_castagnolis() -> None:
    crc = 0xE3069283  # the published check value of CRC-32C for "123456789"
    assert tfrecord.masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_tfrecords_over_several_files(tmp_path: Path) -> None:
    contents = [bytes([i]) * i for i in range(7)]
    for name, part in (("a", contents[:3]), ("b", contents[3:])):
        (tmp_path / name).write_bytes(b"".join(map(record_bytes, part)))
    paths = [tmp_path / "a", tmp_path / "b"]
    found = tfrecord.TFRecords(paths, [3, 4], bytes)
    assert [found[i] for i in range(len(found))] == contents
    with pytest.raises(IndexError):
        found[7]
    with pytest.raises(DataError, match=r"b: holds 4 records, .* says 5"):
        tfrecord.TFRecords(paths, [3, 5], bytes)
    whole = paths[1].read_bytes()
    for damaged, says in (
        (whole[:-3], "truncated in record 3"),
        (b"\1" + whole[1:], "corrupted"),
        (whole[:5], "head"),
    ):
        paths[1].write_bytes(damaged)
        with pytest.raises(DataError, match=says):
            tfrecord.TFRecords(paths, [3, 4], bytes)
