"""TFDS builders: mocked, prepared in both formats, damaged, unprepared; streams from disk resume exactly."""

import dataclasses
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds

import data
from data.disk import load_disk
from data.errors import DataError
from data.files.kinds.text import to_strings
from data.sets import named
from data.splits import TailOfTrain
from data.tfds import builders, signals
from data.tfds import conversion as preparing

from .test_load import record_bytes


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test its own cache and TFDS folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path


def test_mocked_builder_loads_and_streams() -> None:
    with tfds.testing.mock_data(num_examples=20):
        loaded = data.load("tfds:mnist", labels=True)
        assert {k: len(s) for k, s in loaded.splits.items()} == {"train": 18, "validation": 2, "test": 20}
        assert (loaded.shape, loaded.range, loaded.labels) == ((28, 28, 1), (0, 255), 10)
        source = tfds.builder("mnist").as_data_source(split="train")
        np.testing.assert_array_equal(loaded.splits["validation"].x[-1], source[19]["image"])
        assert loaded.splits["validation"].y[-1] == source[19]["label"]
        batch = next(data.stream("tfds:mnist", "test", batch_size=20, epochs=1, shuffle=False))
        np.testing.assert_array_equal(batch["x"], loaded.splits["test"].x)
    assert "tensorflow" not in sys.modules


def prepare(
    root: Path, layout: str, counts: dict[str, int], most: dict[str, int] | None = None
) -> dict[str, np.ndarray]:
    """Write a prepared TFDS folder of 5 x 4 RGB images by the formats' descriptions; return the images.

    most: the highest value of a split's pixels, 255 unless given.
    """
    from array_record.python.array_record_module import ArrayRecordWriter
    from PIL import Image
    from tensorflow_datasets.proto import tf_example_pb2

    folder = root / "shapes" / "1.2.0"
    folder.mkdir(parents=True)
    images, infos = {}, []
    for split, n in counts.items():
        images[split] = np.random.default_rng(n).integers(
            0, (most or {}).get(split, 255) + 1, (n, 5, 4, 3), dtype=np.uint8
        )
        path = folder / f"shapes-{split}.{layout}-00000-of-00001"
        rows = []
        for i, image in enumerate(images[split]):
            png, example = io.BytesIO(), tf_example_pb2.Example()
            Image.fromarray(image).save(png, "PNG")
            example.features.feature["image"].bytes_list.value.append(png.getvalue())
            example.features.feature["label"].int64_list.value.append(i % 3)
            rows.append(example.SerializeToString())
        if layout == "tfrecord":
            path.write_bytes(b"".join(map(record_bytes, rows)))
        else:
            writer = ArrayRecordWriter(str(path), "group_size:1")
            for row in rows:
                writer.write(row)
            writer.close()
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        size = str(path.stat().st_size)
        infos.append({"name": split, "shardLengths": [str(n)], "numBytes": size, "filepathTemplate": template})
    info = {"name": "shapes", "version": "1.2.0", "fileFormat": layout, "splits": infos}
    info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    base = "tensorflow_datasets.core.features"
    image = {
        "pythonClassName": f"{base}.image_feature.Image",
        "image": {"dtype": "uint8", "shape": {"dimensions": ["5", "4", "3"]}},
    }
    label = {"pythonClassName": f"{base}.class_label_feature.ClassLabel", "classLabel": {"numClasses": "3"}}
    features = {
        "pythonClassName": f"{base}.features_dict.FeaturesDict",
        "featuresDict": {"features": {"image": image, "label": label}},
    }
    (folder / "features.json").write_text(json.dumps(features))
    return images


@pytest.mark.parametrize("layout", ["array_record", "tfrecord"])
def test_prepared_folder_loads_and_streams(tmp_path: Path, layout: str) -> None:
    stored = prepare(tmp_path / "own", layout, {"train": 30, "test": 4})
    loaded = data.load("tfds:shapes", tmp_path / "own")
    np.testing.assert_array_equal(loaded.splits["train"].x, stored["train"][:27])
    np.testing.assert_array_equal(loaded.splits["validation"].x, stored["train"][27:])
    np.testing.assert_array_equal(loaded.splits["test"].x, stored["test"])
    np.testing.assert_array_equal(loaded.splits["test"].y, [0, 1, 2, 0])
    assert (loaded.labels, loaded.shape, loaded.range) == (3, (5, 4, 3), (0, 255))
    assert str(tmp_path / "own" / "shapes" / "1.2.0") in loaded.source

    def make(**kwargs: object) -> data.Stream:
        return data.stream("tfds:shapes", data_dir=tmp_path / "own", **({"batch_size": 4, "seed": 5} | kwargs))

    whole = make(epochs=2)
    batches = [b["x"] for b in whole]
    assert [len(b) for b in batches] == [4] * 13 + [2]
    seen = sorted(row.tobytes() for row in np.concatenate(batches))
    assert seen == sorted(row.tobytes() for row in stored["train"][:27] for _ in range(2))
    first = make(epochs=2)
    for _ in range(6):
        next(first)
    state = json.loads(json.dumps(first.get_state()))
    restored = make(epochs=2, threads=1)
    next(restored)
    restored.set_state(state)
    for a, b, c in zip(first, restored, batches[6:], strict=True):
        np.testing.assert_array_equal(a["x"], b["x"])
        np.testing.assert_array_equal(a["x"], c)
        np.testing.assert_array_equal(a["y"], b["y"])
    with pytest.raises(DataError, match="another stream: seed is 5, here 6"):
        make(epochs=2, seed=6).set_state(state)
    assert "tensorflow" not in sys.modules


def fake(features: dict, supervised: tuple = ()) -> object:
    info = SimpleNamespace(features=tfds.features.FeaturesDict(features), supervised_keys=supervised, full_name="fake")
    return SimpleNamespace(info=info)


def test_the_picture_is_preferred_candidates_are_listed_and_a_key_chooses() -> None:
    picture, vector = tfds.features.Image(shape=(5, 4, 3)), tfds.features.Tensor(shape=(3,), dtype=np.float32)
    assert builders.keys(fake({"id": vector, "photo": picture}))[0] == "photo"
    assert builders.keys(fake({"photo": picture, "code": vector}), "code")[0] == "code"
    with pytest.raises(DataError, match=r"several features .*tfds:NAME#KEY; it has .*left .*right"):
        builders.keys(fake({"left": picture, "right": picture}))
    with pytest.raises(DataError, match="no feature 'phot'; nearest: photo"):
        builders.keys(fake({"photo": picture}), "phot")


def test_audio_and_text_are_refused_by_their_kind() -> None:
    bare = lambda cls: cls.__new__(cls)  # building these needs TensorFlow, telling them apart does not
    of = lambda **known: SimpleNamespace(
        info=SimpleNamespace(features=known, supervised_keys=tuple(known), full_name="fake")
    )
    with pytest.raises(
        DataError, match="feature 'speech' is audio, which is not read from disk: leave --read stream away"
    ):
        builders.keys(of(speech=bare(tfds.features.Audio)))
    with pytest.raises(DataError, match="feature 'line' is text"):
        builders.keys(of(line=bare(tfds.features.Text)), "line")


def test_audio_and_text_features_are_read_as_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings of two lengths and lines, with published splits, labels and the words after #."""
    bare = lambda cls: cls.__new__(cls)
    label = bare(tfds.features.ClassLabel)
    monkeypatch.setattr(tfds.features.ClassLabel, "num_classes", 2)
    known = {"audio": bare(tfds.features.Audio), "line": bare(tfds.features.Text), "label": label}
    info = SimpleNamespace(features=known, supervised_keys=("audio", "label"), full_name="fake", splits={})
    rng = np.random.default_rng(0)
    wave = lambda i: (8000 * np.sin(np.arange(2000 + 100 * (i % 2)) * (0.1 + 0.1 * (i % 2)))).astype(np.int64)
    row = lambda i: {"audio": wave(i), "line": f"line {i} of {rng.integers(9)}".encode(), "label": i % 2}
    rows = {"train": [row(i) for i in range(30)], "test": [row(i) for i in range(8)]}
    monkeypatch.setattr(signals.prepared, "records", lambda builder, part: rows[part])
    monkeypatch.setattr(signals.prepared, "parts", lambda builder: list(rows))
    monkeypatch.setattr(builders, "builder_of", lambda *_: (SimpleNamespace(info=info), "fake"))
    heard = data.load("tfds:fake")
    assert (heard.kind, heard.shape[1], heard.labels) == ("audio", 40, 2)
    assert {key: len(split) for key, split in heard.splits.items()} == {"train": 27, "validation": 3, "test": 8}
    assert heard.splits["test"].y.tolist() == [0, 1] * 4
    waves = data.load("tfds:fake#audio/wave", options=data.Options(kind="audio", scale="none"))
    np.testing.assert_allclose(waves.splits["test"].x[0, :2000, 0], wave(0) / 32768, atol=1e-6)
    assert np.isnan(waves.splits["test"].x[0, 2000:]).all()
    read = data.load("tfds:fake#line")
    assert (read.kind, read.labels, read.reading["unit"]) == ("text", 2, "characters")
    assert to_strings(read.splits["test"].x, read.reading) == [r["line"].decode() for r in rows["test"]]
    words = data.load("tfds:fake#line/words/windows/8")
    assert words.shape == (8,)
    with pytest.raises(DataError, match=r"--kind text .* was asked for, its values are of kind audio"):
        data.load("tfds:fake", options=data.Options(kind="text"))


@pytest.mark.parametrize("kind", [np.uint8, np.bool_, np.int64, np.float32, np.float64, np.uint16])
def test_the_kept_type_is_decided_by_the_feature(kind: type) -> None:
    small = {np.uint8: np.uint8, np.bool_: np.uint8, np.float32: np.float32, np.uint16: np.float32}
    feature = tfds.features.Tensor(shape=(3,), dtype=kind)
    assert builders.dtype_of(fake({"x": feature}), "x") == small.get(kind, np.float64)


def test_a_data_dir_one_level_too_deep_is_noticed(tmp_path: Path) -> None:
    prepare(tmp_path / "own", "tfrecord", {"train": 30})
    (tmp_path / "own" / "mnist").mkdir()
    with pytest.raises(DataError, match=r"seems one level too deep: give .*own"):
        data.load("mnist", tmp_path / "own" / "mnist")


@pytest.mark.parametrize("most", [255, 1])
def test_memory_and_stream_see_the_same_numbers_to_the_bit(tmp_path: Path, most: int) -> None:
    from train import Config
    from training.inputs import load_inputs

    prepare(tmp_path / "own", "tfrecord", counts := {"train": 60, "test": 12}, dict.fromkeys(counts, most))
    made = {read: load_inputs(Config(dataset="tfds:shapes#image", read=read, batch_size=9), str(tmp_path / "own"))
            for read in ("memory", "stream")}  # fmt: skip
    assert dataclasses.replace(made["stream"].config, read="memory") == made["memory"].config
    assert made["stream"].range == made["memory"].range == (0, most)
    assert made["stream"].dataset.bits == made["memory"].dataset.bits == (most == 1)
    known = {np.asarray(row).tobytes() for row in made["memory"].splits["train"].x}
    batch = next(made["stream"].stream)["x"]  # type: ignore[arg-type]
    assert all(row.tobytes() in known for row in batch)
    for part in ("validation", "test"):
        np.testing.assert_array_equal(made["memory"].splits[part].x, made["stream"].splits[part].x)


def test_bits_beside_a_training_split_of_grey_are_refused_in_memory_and_streamed(tmp_path: Path) -> None:
    prepare(tmp_path, "tfrecord", {"train": 30, "validation": 10, "test": 4}, {"validation": 1, "test": 1})
    for load in (data.load, load_disk):
        with pytest.raises(DataError, match="validation and test hold 0 and 1, train holds up to 255"):
            load("tfds:shapes", tmp_path)


def test_decoded_examples_are_kept_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path / "own", "tfrecord", {"train": 30, "test": 4})
    first = data.load("tfds:shapes", tmp_path / "own")

    def broken(*_: object, **__: object) -> object:
        raise DataError("decoded again")

    monkeypatch.setattr(builders, "read", broken)
    again = data.load("tfds:shapes", tmp_path / "own")
    assert again.record() == first.record()
    kept = next((tmp_path / "cache").rglob("*.npz"))
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(DataError, match="decoded again"):
        data.load("tfds:shapes", tmp_path / "own")


def test_streams_from_memory_and_bad_arguments() -> None:
    endless = data.stream("digits", "validation", batch_size=100, seed=1)
    rows = [next(endless) for _ in range(4)]
    assert all(b["x"].shape == (100, 8, 8, 1) and b["y"].shape == (100,) for b in rows)
    assert len({b["x"].tobytes() for b in rows}) == 4
    with pytest.raises(DataError, match="batch_size must be at least 1, got 0"):
        data.stream("digits", batch_size=0)
    with pytest.raises(DataError, match="'trian'; nearest: train"):
        data.stream("digits", "trian", batch_size=1)


def test_damaged_prepared_folders_are_named(tmp_path: Path) -> None:
    prepare(tmp_path, "tfrecord", {"train": 30, "test": 4})
    folder = tmp_path / "shapes" / "1.2.0"
    path = folder / "shapes-train.tfrecord-00000-of-00001"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(DataError, match=rf"{path.name}: truncated in record 29"):
        data.load("tfds:shapes", tmp_path)
    path.write_bytes(whole.replace(b"IDAT", b"IDBT"))
    with pytest.raises(DataError, match="cannot be decoded"):
        data.load("tfds:shapes", tmp_path)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="not a readable prepared TFDS folder"):
        data.load("tfds:shapes", tmp_path)


def test_prepared_folder_of_a_named_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(named.NAMED, "mnist", dataclasses.replace(named.NAMED["mnist"], rule=TailOfTrain(4)))
    stored = prepare(tmp_path / "tfds", "array_record", {"train": 30, "test": 4})
    (tmp_path / "tfds" / "shapes").rename(tmp_path / "tfds" / "mnist")
    info = tmp_path / "tfds" / "mnist" / "1.2.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"name": "shapes"', '"name": "mnist"'))
    for path in info.parent.glob("shapes-*"):
        path.rename(path.with_name(path.name.replace("shapes", "mnist")))
    (tmp_path / "raw" / "mnist").mkdir(parents=True)
    loaded = data.load("mnist", tmp_path / "raw")
    np.testing.assert_array_equal(loaded.splits["validation"].x, stored["train"][26:])
    assert "prepared" in loaded.source
    assert "order of the prepared folder" in loaded.notes
    assert set(loaded.sha256) == {f"{k}.{v}" for k in loaded.splits for v in "xy"}


def test_unprepared_builder_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs TensorFlow once: pip install tensorflow-cpu") as caught:
        data.load("tfds:kmnist", tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="unknown TFDS builder 'kmnits'; nearest: kmnist, "):
        data.load("tfds:kmnits", tmp_path)


def test_sets_are_prepared_in_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TFDS names an extracted file by its file name alone, and MNIST and Fashion-MNIST share theirs."""
    asked = []

    def download_and_prepare(self: object, **kwargs: object) -> None:
        asked.append(kwargs)

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download_and_prepare)
    monkeypatch.setattr(preparing.importlib.util, "find_spec", lambda _: True)
    monkeypatch.setattr(preparing, "_hide_gpus", lambda: None)
    monkeypatch.setattr(preparing.registry, "reachable", lambda *_: None)
    for name in ("mnist", "fashion_mnist"):
        preparing.prepare(name, tmp_path, tmp_path / "cache", 1.0, [])
    folders = [Path(k["download_dir"]) for k in asked]
    assert len(set(folders)) == 2
    assert all(f.is_relative_to(tmp_path / "cache") for f in folders)
    assert all(k["file_format"] == "array_record" for k in asked)
