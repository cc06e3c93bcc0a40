"""Pictures: modes, 16 bits, palettes, alpha, orientation, sizes, folders and zips, given splits."""

import os
import zipfile

import numpy as np
import pytest
from PIL import Image

import data
from data.errors import DataError
from data.options import Options

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 4), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 4, 3), dtype=np.uint8)


def read(path, **options):
    return data.read(path, Options(**options))


def save(image, path, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **kwargs)
    return path


def test_grey_stays_one_channel_and_16_bits_stay_numbers(tmp_path):
    np.testing.assert_array_equal(read(save(Image.fromarray(GREY), tmp_path / "a.png")).x[0, ..., 0], GREY)
    deep = RNG.integers(0, 65536, (6, 4)).astype(np.uint16)
    np.testing.assert_array_equal(read(save(Image.fromarray(deep), tmp_path / "b.png")).x[0, ..., 0], deep)
    real = RNG.normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_array_equal(read(save(Image.fromarray(real), tmp_path / "c.tif")).x[0, ..., 0], real)
    bits = Image.fromarray(GREY > 99)
    np.testing.assert_array_equal(read(save(bits, tmp_path / "d.png")).x[0, ..., 0], np.where(GREY > 99, 255, 0))


def test_palette_is_expanded(tmp_path):
    palette = Image.fromarray(COLOUR).quantize(7)
    found = read(save(palette, tmp_path / "a.png"))
    np.testing.assert_array_equal(found.x[0], np.asarray(palette.convert("RGB")))
    assert "palette expanded" in found.remarks


def test_alpha_is_dropped_when_constant_and_refused_otherwise(tmp_path):
    whole = np.dstack([COLOUR, np.full((6, 4), 255, np.uint8)])
    found = read(save(Image.fromarray(whole), tmp_path / "a.png"))
    np.testing.assert_array_equal(found.x[0], COLOUR)
    assert "alpha dropped" in found.remarks
    path = save(Image.fromarray(np.dstack([COLOUR, GREY])), tmp_path / "b.png")
    with pytest.raises(DataError, match=r"alpha channel varies .*--channels 3"):
        read(path)
    np.testing.assert_array_equal(read(path, channels=3).x[0], COLOUR)
    assert read(path, channels=1).x.shape == (1, 6, 4, 1)


def test_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise
    path = save(Image.fromarray(GREY), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read(path).x[0, ..., 0], np.rot90(GREY, -1))


def test_mixed_sizes_and_channels_need_options(tmp_path):
    save(Image.fromarray(GREY), tmp_path / "a.png")
    save(Image.fromarray(GREY[:3]), tmp_path / "b.png")
    with pytest.raises(DataError, match="--resize"):
        read(tmp_path)
    assert read(tmp_path, resize=(3, 2)).x.shape == (2, 3, 2, 1)
    block = read(tmp_path / "a.png", resize=(3, 2)).x[0, ..., 0]
    np.testing.assert_allclose(block, GREY.reshape(3, 2, 2, 2).mean((1, 3)), atol=1)
    save(Image.fromarray(COLOUR), tmp_path / "b.png")
    with pytest.raises(DataError, match="--channels"):
        read(tmp_path)
    assert read(tmp_path, channels=3).x.shape == (2, 6, 4, 3)
    assert read(tmp_path, channels=1).x.shape == (2, 6, 4, 1)


@pytest.mark.parametrize("kind", ["tif", "gif"])
def test_frames_of_one_file_are_examples_and_of_a_folder_the_first(tmp_path, kind):
    frames = [Image.fromarray(np.full((6, 4), 9 * i, np.uint8)) for i in range(12)]
    path = save(frames[0], tmp_path / "in" / f"a.{kind}", save_all=True, append_images=frames[1:])
    loaded = data.load(f"file:{path}")
    x = np.concatenate([loaded.splits[name].x for name in ("train", "validation", "test")])
    np.testing.assert_array_equal(x[:, 0, 0, 0], 9 * np.arange(12))  # blocks: neighbours in time stay together
    assert f"its 12 frames are the examples ({dict(tif='TIFF', gif='GIF')[kind]})" in loaded.remarks
    assert read(path).names[11] == f"a.{kind} 12"
    assert "the first of several frames" in " ".join(read(tmp_path / "in").remarks)
    other = Image.fromarray(np.zeros((5, 4), np.uint8))
    save(frames[0], tmp_path / "b.tif", save_all=True, append_images=[other])
    with pytest.raises(DataError, match=r"frame 2 is \(5, 4, 1\), the first is \(6, 4, 1\)"):
        read(tmp_path / "b.tif")


def tree(top, per_class=12):
    for k, name in enumerate(("cat", "ant")):
        for i in range(per_class):
            save(Image.fromarray(np.full((5, 4), 20 * k + i, np.uint8)), top / name / f"{i:02}.png")


def test_class_folders_beside_strays(tmp_path):
    tree(tmp_path)
    for stray in ("__pycache__", ".hidden"):
        (tmp_path / stray).mkdir()
    (tmp_path / "notes.txt").write_text("x")
    loaded = data.load(f"file:{tmp_path}")
    assert (loaded.labels, loaded.classes) == (2, ("ant", "cat"))
    assert "files that are no pictures passed over: 1" in loaded.remarks
    assert "hidden folders passed over: 2" in loaded.remarks
    save(Image.fromarray(GREY), tmp_path / "loose.png")
    with pytest.raises(DataError, match=r"1 picture lies beside the class folders ant, cat, the first is loose\.png"):
        data.load(f"file:{tmp_path}")


def test_a_zip_is_read_in_place_like_the_folder(tmp_path):
    tree(tmp_path / "set")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted((tmp_path / "set").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
    a, b = data.read(tmp_path / "a.zip"), data.read(tmp_path / "set")
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert a.names == b.names == [f"{c}/{i:02}.png" for c in ("ant", "cat") for i in range(12)]


def test_folders_in_folders_are_classes(tmp_path):
    for outer in ("greek", "latin"):
        tree(tmp_path / outer, 3)
    found = data.read(tmp_path)
    assert found.classes == ("greek/ant", "greek/cat", "latin/ant", "latin/cat")
    np.testing.assert_array_equal(found.labels, np.repeat(range(4), 3))
    assert "classes are folders in folders, such as greek/ant" in found.remarks


def test_folders_of_splits_are_splits(tmp_path):
    for part, n in (("train", 12), ("val", 3), ("test", 4)):
        tree(tmp_path / part, n)
    loaded = data.load(f"file:{tmp_path}")
    assert {k: len(s) for k, s in loaded.splits.items()} == {"train": 24, "validation": 6, "test": 8}
    assert loaded.notes == "as given"
    assert loaded.classes == ("ant", "cat")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_among_pictures_is_named_and_nothing_waits(tmp_path):
    tree(tmp_path, 5)
    os.mkfifo(tmp_path / "cat" / "x.png")
    with pytest.raises(DataError, match=r"cat/x\.png: not a file that can be read"):
        data.read(tmp_path)
