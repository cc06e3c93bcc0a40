"""Where sets come from: registry, cache, prepared TFDS folders, raw files, download; no outside network."""

import dataclasses
import gzip
import hashlib
import http.server
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

import data
from data.errors import DataError
from data.sets import named, sources
from data.splits import TailOfTrain
from data.tfds import registry

from .test_load import idx_bytes

FILES = named.NAMED["mnist"].layouts[0].files


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test its own cache and TFDS folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path


def small_mnist() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    out = {}
    for prefix, n in (("train", 12), ("t10k", 5)):
        x, y = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8)
        out[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(idx_bytes(x), mtime=0)
        out[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(idx_bytes(y), mtime=0)
    return out


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Make "mnist" a set of 12 + 5 images whose registered downloads are at a closed port."""
    files = small_mnist()
    monkeypatch.setitem(named.NAMED, "mnist", dataclasses.replace(named.NAMED["mnist"], rule=TailOfTrain(4)))
    register(monkeypatch, files, "http://127.0.0.1:9")
    return files


def register(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], host: str) -> None:
    facts = {
        name: registry.Fact(f"{host}/{name}", name, len(content), hashlib.sha256(content).hexdigest())
        for name, content in files.items()
    }
    monkeypatch.setattr(registry, "facts", lambda _: facts)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a folder over HTTP on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


def test_registry_is_tfds_own_and_needs_no_tensorflow() -> None:
    facts = registry.facts("mnist")
    assert set(facts) == set(FILES)
    first = facts["train-images-idx3-ubyte.gz"]
    assert first.sha256 == "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    assert first.size == 9912422
    assert "tensorflow" not in sys.modules
    for name, spec in named.NAMED.items():
        for layout in spec.layouts:
            if layout.contents is None:
                assert set(layout.files) <= set(registry.facts(str(spec.registry))), name


def test_raw_files_are_read_and_verified(small: dict[str, bytes], tmp_path: Path) -> None:
    put(tmp_path / "raw" / "mnist", small)
    loaded = data.load("mnist", tmp_path / "raw")
    assert {k: len(s) for k, s in loaded.splits.items()} == {"train": 8, "validation": 4, "test": 5}
    assert loaded.sha256 == {f: hashlib.sha256(c).hexdigest() for f, c in small.items()}
    assert loaded.source == f"raw files in {tmp_path / 'raw' / 'mnist'}"
    pixels = gzip.decompress(small["train-images-idx3-ubyte.gz"])[16:]
    x = np.frombuffer(pixels, np.uint8).reshape(12, 28, 28, 1)
    np.testing.assert_array_equal(loaded.splits["validation"].x, x[8:])


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-7], lambda c: c[:30] + b"\x55" + c[31:], lambda c: c + b"x", lambda c: b""]
)
def test_damaged_raw_file_is_named_and_kept(small: dict[str, bytes], tmp_path: Path, damage: object) -> None:
    name = "t10k-images-idx3-ubyte.gz"
    put(tmp_path / "raw" / "mnist", small | {name: damage(small[name])})
    with pytest.raises(DataError, match=rf"{name}: (truncated|corrupted|too long|the file is empty)") as caught:
        data.load("mnist", tmp_path / "raw")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "raw" / "mnist" / name).read_bytes() == damage(small[name])


def test_download_fills_the_cache_and_the_cache_comes_first(
    small: dict[str, bytes], host: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, small, host[0])
    put(host[1], small)
    first = data.load("mnist")
    assert first.source.startswith("download: ")
    cache = sources.cache_folder() / "mnist"
    assert {p.name: p.read_bytes() for p in cache.iterdir()} == small
    for path in host[1].iterdir():
        path.unlink()
    put(tmp_path / "raw" / "mnist", small | {FILES[0]: b"never read"})
    again = data.load("mnist", tmp_path / "raw")
    assert again.source.startswith("cache: ")
    np.testing.assert_array_equal(again.splits["train"].x, first.splits["train"].x)
    put(cache, {FILES[0]: small[FILES[0]][:-1]})
    put(tmp_path / "raw" / "mnist", small)
    assert data.load("mnist", tmp_path / "raw").source.startswith("raw files")  # damaged cache: passed over


def test_wrong_download_leaves_nothing(
    small: dict[str, bytes], host: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, small, host[0])
    put(host[1], small | {FILES[1]: b"another file"})
    with pytest.raises(DataError, match=rf"NonMatchingChecksumError: Artifact \S*{FILES[1]}") as caught:
        data.load("mnist")
    assert "\n" not in str(caught.value)
    assert not [p for p in sources.cache_folder().rglob("*") if p.is_file()]


@pytest.mark.parametrize("network", ["refused", "silent", "name server silent"])
def test_offline_is_one_message_within_3_seconds(
    small: dict[str, bytes], tmp_path: Path, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        if network == "silent":
            register(monkeypatch, small, f"http://127.0.0.1:{silent.getsockname()[1]}")
        if network == "name server silent":
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(20) and [])
        start = time.monotonic()
        with pytest.raises(DataError) as caught:
            data.load("mnist", tmp_path)
        assert time.monotonic() - start < 3
        over.set()
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        *FILES,
        str(sources.cache_folder() / "mnist"),
        str(tmp_path / "mnist"),
        "127.0.0.1",
        "--dataset digits",
    ):
        assert part in message
    for content in small.values():
        assert hashlib.sha256(content).hexdigest() in message
    assert not sources.cache_folder().exists()


def test_another_set_is_never_substituted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "reachable", lambda *_: "no network in tests")
    x, y = np.zeros((10, 32, 32, 3), np.uint8), np.zeros(10, np.uint8)
    (tmp_path / "cifar10").mkdir()
    for folder in ("cifar10", "cifar10_subset"):
        (tmp_path / folder).mkdir(exist_ok=True)
        arrays = {"train_images": x, "train_labels": y, "test_images": x, "test_labels": y}
        np.savez(tmp_path / folder / "cifar10_subset.npz", **arrays)
    with pytest.raises(DataError, match=r"^cifar10: not found.*cifar-10-binary.tar.gz"):
        data.load("cifar10", tmp_path)
    with pytest.raises(DataError, match=r"cifar10_subset.npz: not the known data"):
        data.load("cifar10_subset", tmp_path)


def test_real_mnist_passes_tfds_own_download_manager(real_data: Path, tmp_path: Path) -> None:
    builder = tfds.builder_cls("mnist")
    manager = tfds.download.DownloadManager(
        download_dir=tmp_path,
        manual_dir=real_data / "mnist",
        force_checksums_validation=True,
        url_infos=builder.url_infos,
    )
    got = manager.download({Path(url).name: url for url in builder.url_infos})
    assert {k: Path(v) for k, v in got.items()} == {f: real_data / "mnist" / f for f in FILES}
    facts, loaded = registry.facts("mnist"), data.load("mnist", real_data)
    assert loaded.sha256 == {f: facts[f].sha256 for f in FILES}
    assert {k: len(s) for k, s in loaded.splits.items()} == {
        "train": 50000,
        "validation": 10000,
        "test": 10000,
    }
    np.testing.assert_array_equal(np.bincount(loaded.splits["test"].y)[:3], [980, 1135, 1032])


@pytest.mark.parametrize(
    ("name", "shape", "sizes", "labels"),
    [
        ("fashion_mnist", (28, 28, 1), (50000, 10000, 10000), 10),
        ("binarized_mnist", (28, 28, 1), (50000, 10000, 10000), None),
        ("frey_faces", (28, 20, 1), (1565, 200, 200), None),
        ("cifar10_subset", (32, 32, 3), (9000, 1000, 1000), 10),
        ("omniglot28", (28, 28, 1), (17352, 1928, 13180), 1623),
    ],
)
def test_real_sets(real_data: Path, name: str, shape: tuple, sizes: tuple, labels: int | None) -> None:
    loaded = data.load(name, real_data)
    assert (loaded.shape, tuple(len(s) for s in loaded.splits.values()), loaded.labels) == (
        shape,
        sizes,
        labels,
    )
    assert all(s.x.dtype == np.uint8 and s.x.max() <= loaded.range[1] for s in loaded.splits.values())
    if labels:
        assert max(int(s.y.max()) for s in loaded.splits.values()) == labels - 1
    if name == "binarized_mnist":
        assert loaded.binarisation == "published"
        assert loaded.range == (0, 1)


def test_real_frey_faces_from_the_original_format(real_data: Path, tmp_path: Path) -> None:
    from scipy.io import savemat

    faces = np.load(real_data / "frey_faces" / "frey_faces.npz")["faces"]
    (tmp_path / "frey_faces").mkdir()
    savemat(tmp_path / "frey_faces" / "frey_rawface.mat", {"ff": faces.reshape(1965, 560).T})
    loaded = data.load("frey_faces", tmp_path)  # the contents are verified by their SHA-256
    np.testing.assert_array_equal(loaded.splits["test"].x[..., 0], faces[-200:])
