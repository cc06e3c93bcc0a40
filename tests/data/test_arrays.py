"""Arrays: which one is meant, shapes that could mean two things, files left on disk."""

import gzip

import numpy as np
import pytest

import data
from data import disk
from data.errors import DataError
from data.files import memmap
from data.options import Options

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3))
IMAGES = RNG.integers(0, 256, (20, 6, 5), dtype=np.uint8)


@pytest.mark.parametrize("key", ["arr_0", "imgs", "images", "data", "X", "anything"])
def test_the_array_is_found_by_name_or_because_it_is_alone(tmp_path, key):
    np.savez(tmp_path / "a.npz", **{key: X})
    np.testing.assert_array_equal(data.read(tmp_path / "a.npz").x, X)


def test_several_candidates_are_listed_and_one_is_chosen(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, data=2 * X, y=np.arange(20) % 2)
    with pytest.raises(DataError, match=r"2 arrays could be the examples; it holds X \(20, 3\), data \(20, 3\)"):
        data.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.read(f"{tmp_path / 'a.npz'}#data").x, 2 * X)
    with pytest.raises(DataError, match="no array 'date'; nearest: data"):
        data.read(f"{tmp_path / 'a.npz'}#date")


def test_objects_beside_the_array_do_not_matter(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, meta=np.array([{"a": 1}], object))
    np.testing.assert_array_equal(data.read(tmp_path / "a.npz").x, X)


def test_matlab_and_gzipped_npy(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", {"X": X, "y": np.arange(20) % 4})
    found = data.load(f"file:{tmp_path / 'a.mat'}")
    assert (found.shape, found.labels) == ((3,), 4)
    savemat(tmp_path / "b.mat", {"X": X.T, "y": np.arange(20) % 4})
    found = data.read(tmp_path / "b.mat")
    np.testing.assert_array_equal(found.x, X)
    assert "transposed: 20 examples are the columns" in found.remarks
    np.save(tmp_path / "a.npy", IMAGES)
    (tmp_path / "a.npy.gz").write_bytes(gzip.compress((tmp_path / "a.npy").read_bytes()))
    np.testing.assert_array_equal(data.read(tmp_path / "a.npy.gz").x, IMAGES)


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"], file["y"] = X, np.arange(20) % 2
    assert data.load(f"file:{tmp_path / 'a.h5'}").labels == 2
    (tmp_path / "a.h5").unlink()
    with h5py.File(tmp_path / "a.mat", "w") as file:  # as MATLAB 7.3 writes X of (20, 3): axes in the opposite order
        file["X"] = X.T
    np.testing.assert_array_equal(data.read(tmp_path / "a.mat").x, X)


def test_a_leading_class_axis_is_never_read_as_channels(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((30, 20, 28, 28), np.uint8))
    with pytest.raises(DataError, match=r"too long for channels; .*x.reshape\(600, 28, 28\)"):
        data.load(f"file:{tmp_path / 'a.npy'}")


def test_ids_beyond_float64_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.full((20, 2), 2**60 + 1))
    with pytest.raises(DataError, match=r"beyond 2\^53"):
        data.load(f"file:{tmp_path / 'a.npy'}")


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(memmap, "memory", lambda: 50_000)


@pytest.mark.parametrize("split", ["auto", "blocks"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.int64])
def test_a_large_file_stays_on_disk_and_loses_no_row(tmp_path, small_memory, dtype, split):
    x = np.arange(900 * 7).reshape(900, 7).astype(dtype) if dtype != np.uint8 else np.tile(IMAGES[:1], (900, 1, 1))
    np.save(tmp_path / "a.npy", x)
    assert disk.too_large(f"file:{tmp_path / 'a.npy'}")
    dataset, train = disk.load_disk(f"file:{tmp_path / 'a.npy'}", options=Options(split=split))
    assert (len(train), len(dataset.splits["validation"]), len(dataset.splits["test"])) == (720, 90, 90)
    parts = [np.stack([train[i]["x"] for i in range(len(train))]), *(s.x for s in dataset.splits.values())]
    if dtype != np.uint8:
        assert sorted(np.concatenate(parts)[:, 0]) == list(range(0, 6300, 7))
        np.testing.assert_allclose(dataset.scale.apply(parts[0]).mean(0), 0, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate(list(train.blocks())), parts[0])


@pytest.mark.parametrize("damage", ["cut", "fortran", "header"])
def test_a_damaged_large_file_is_one_line(tmp_path, small_memory, damage):
    path = tmp_path / "a.npy"
    np.save(path, np.asfortranarray(RNG.normal(size=(90, 70))) if damage == "fortran" else RNG.normal(size=(90, 70)))
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-8])
    if damage == "header":
        path.write_bytes(content.replace(b"(90, 70)", b"(9" + b"9" * 5 + b",)", 1))
    with pytest.raises(DataError, match=r"truncated|column by column|shape|header"):
        disk.load_disk(f"file:{path}")


def test_pictures_laid_flat_bring_a_hint_unless_they_are_bits(tmp_path):
    grey = np.random.default_rng(1).integers(0, 256, (40, 64)).astype(np.uint8)
    for x, hinted in ((grey, True), ((grey > 127) * np.uint8(255), False)):
        np.save(tmp_path / "a.npy", x)
        assert any("8 x 8 pictures" in r for r in data.load(f"file:{tmp_path / 'a.npy'}").remarks) is hinted


@pytest.mark.parametrize("name", ["a.npy", "x.npz", "splits.npz", "pictures.npy"])
def test_nan_is_a_missing_value_and_the_scale_is_that_of_the_others(tmp_path, name):
    holes = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
    holes[:, 0] = X[:, 0]
    x = {"pictures.npy": holes[:, None, :]}.get(name, holes)
    if name.endswith(".npy"):
        np.save(tmp_path / name, x)
    else:
        np.savez(tmp_path / name, **({"x": x} if name == "x.npz" else {"x_train": x, "x_test": X}))
    found = data.load(f"file:{tmp_path / name}")
    assert found.missing
    assert any(f"{np.isnan(x).sum()} values are missing (nan)" in r for r in found.remarks)
    train = found.splits["train"].x
    assert np.isnan(train).any()
    scaled = found.scale.apply(train)
    np.testing.assert_array_equal(np.isnan(scaled), np.isnan(train))
    np.testing.assert_allclose(np.nanmean(scaled.reshape(-1, found.shape[-1]), axis=0), 0, atol=1e-6)
    again = data.read(tmp_path / name, like=found.record())
    assert np.isnan(again.x).sum() == np.isnan(x).sum()
