"""What `file:` does not read is named for what it is, with the way out, in one line."""

import numpy as np
import pytest

import data
from data.errors import DataError

RNG = np.random.default_rng(0)
FILES = {
    "a.wav": (b"RIFF....WAVE", "not a readable wav file"),
    "a.mp3": (b"ID3", "sound; convert it to wav"),
    "a.json": (b"{}", "save its numbers as csv"),
    "a.xlsx": (b"PK\3\4", "a spreadsheet; export it as csv"),
    "a.pkl": (b"\x80\4.", "never unpickled"),
    "a.tar.gz": (b"\x1f\x8b..", "an archive; unpack it"),
    "iris.data": (b"5.1,3.5,a\n4.9,3.0,b\n4.7,3.2,a\n", "rows of numbers in text, cut by commas; name it .csv"),
    "unheard.of": (b"nothing to see", "of an unknown kind; convert it"),
    "labels.npy": (np.arange(50) % 10, "50 labels without examples (shape (50,), 10 values)"),
    "words.npy": (np.array(["a", "b"] * 20), "40 labels without examples"),
    "alike.npy": (np.full((40, 8, 8), 3, np.uint8), "every column is constant in the training split"),
    "column.npy": (RNG.normal(size=50), "for one column to (n, 1)"),
    "packed.npy": (np.packbits(RNG.random((40, 784)) < 0.5, axis=1), "98 bytes for 784 bits a row; save np.unpackbits"),
}


def refusal(place) -> str:
    with pytest.raises(DataError) as caught:
        data.load(f"file:{place}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def save(place, content) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        np.save(place, content)
    else:
        place.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_named_for_what_it_is(tmp_path, name):
    content, says = FILES[name]
    save(tmp_path / name, content)
    assert says in refusal(tmp_path / name)


def test_a_folder_without_pictures_says_what_it_holds(tmp_path):
    (tmp_path / "set").mkdir()
    assert refusal(tmp_path / "set").endswith("it is empty")
    save(tmp_path / "set" / "a.mp3", b"ID3")
    assert "it holds 1 .mp3: sound" in refusal(tmp_path / "set")
    save(tmp_path / "set" / "b.csv", b"1,2\n")
    assert f"a file is given by itself: file:{tmp_path}/set/b.csv" in refusal(tmp_path / "set")
    save(tmp_path / "run" / "config.json", b"{}")
    (tmp_path / "run" / "checkpoints").mkdir()
    assert "experiments.apply" in refusal(tmp_path / "run")


def test_the_files_of_a_named_set_lead_to_its_name(tmp_path):
    files = [f"{p}-{k}-ubyte.gz" for p in ("train", "t10k") for k in ("images-idx3", "labels-idx1")]
    for folder in ("fashion_mnist", "elsewhere"):
        for name in files:
            save(tmp_path / folder / name, b"x")
    way = f"--dataset fashion_mnist --data-dir {tmp_path}"
    assert way in refusal(tmp_path / "fashion_mnist")
    assert way in refusal(tmp_path / "fashion_mnist" / files[1])
    assert way in refusal(tmp_path)
    assert "--dataset mnist or fashion_mnist" in refusal(tmp_path / "elsewhere")
