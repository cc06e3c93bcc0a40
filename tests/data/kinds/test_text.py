"""Texts: there and back, the vocabulary of training alone, waste, and one line for what cannot be read."""

import numpy as np
import pytest

import data
from data.errors import DataError
from data.files.kinds.text import LONGEST, WASTE, from_strings, pieces, to_strings, waste_of

RNG = np.random.default_rng(0)
LINES = ["".join(RNG.choice(list("abcd e"), RNG.integers(3, 30))).strip() or "a" for _ in range(200)]


def load(tmp_path, content, how="", **options):
    place = tmp_path / "a.txt"
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return data.load(f"file:{place}{how}", options=data.Options(**options))


@pytest.mark.parametrize("how", ["", "#words", "#bytes", "#windows/16", "#words/lines/24", "#characters/windows"])
def test_examples_in_order_are_the_text(tmp_path, how):
    """All that is left out is blank lines, and a last window under half full; every symbol that is known comes back."""
    text = "\n".join(LINES) + "\n"
    found = load(tmp_path, text, how)
    split = [found.splits[key].x for key in ("train", "validation", "test")]
    back = "".join(to_strings(np.concatenate(split), found.reading))
    length, unit = found.reading["length"], found.reading["unit"]
    assert found.shape == (length,)
    if unit == "words":  # words that training has not seen twice come back as unknown
        assert len(pieces(text, unit)) - np.concatenate(split).astype(bool).sum() <= length // 2
    else:
        assert text.startswith(back)
        assert len(text) - len(back) <= length // 2
    np.testing.assert_array_equal(from_strings(to_strings(split[0], found.reading), found.reading), split[0])


def test_the_vocabulary_is_that_of_training_and_the_rest_is_unknown(tmp_path):
    found = load(tmp_path, "\n".join(LINES) + "\nz" * 30, "#line")
    assert "z" not in found.reading["vocabulary"]
    assert (found.splits["test"].x[-1] == [1] + [0] * (found.shape[0] - 1)).all()
    assert (found.splits["train"].x != 1).all()
    counts = [sum(line.count(s) for line in LINES[:184]) for s in found.reading["vocabulary"]]
    assert counts == sorted(counts, reverse=True)  # frequent ones have small numbers


def test_lines_together_waste_less_than_a_fifth(tmp_path):
    found = load(tmp_path, "\n".join(LINES))
    x = np.concatenate([split.x for split in found.splits.values()])
    rows = to_strings(x, found.reading)
    assert waste_of(rows, found.shape[0]) == pytest.approx((x == 0).mean())
    assert (x == 0).mean() < WASTE
    assert "of the places are padding" in found.line()
    assert all(row.endswith("\n") for row in rows)  # whole lines
    assert found.shape[0] <= LONGEST


def test_another_file_is_read_by_the_runs_vocabulary(tmp_path):
    record = load(tmp_path, "\n".join(LINES), "#line").record()
    other = tmp_path / "b.txt"
    other.write_text("abba\nzebra\n")
    found = data.read(other, like=record)
    assert found.names == ["abba", "zebra"]
    assert found.remarks == ("2 of 9 characters not there in training: read as unknown",)
    assert to_strings(found.x, record["reading"]) == ["abba", "\N{REPLACEMENT CHARACTER}eb\N{REPLACEMENT CHARACTER}a"]


def test_pythons_own_documentation_needs_no_file():
    found = data.load("python_docs")
    assert sum(len(split) for split in found.splits.values()) > 1000
    assert 'The "assert" statement' in to_strings(found.splits["train"].x[:1], found.reading)[0]
    assert found.scale.kind == "none"


@pytest.mark.parametrize(
    ("content", "how", "options", "words"),
    [
        (b"", "", {}, "the file is empty"),
        (b" \n\n ", "", {}, "the text is empty (4 bytes, nothing but blanks)"),
        (b"aaaaaaaaaa" * 100, "#windows/8", {}, "one symbol only, 'a'"),
        (b"caf\xe9 au lait", "", {}, "byte 3 (0xe9) is no UTF-8; save the text as UTF-8, or read file:...#bytes"),
        (b"to be or not to be", "", {}, "too few to split in three: at least 10 are needed; give a longer text"),
        (b"to be or not to be", "#wrods", {}, "nearest: words"),
        (b"to be or not to be", "", {"scale": "standardise"}, "have no scale; leave --scale away"),
        (b"to be or not to be", "", {"split": "given"}, "needs splits in the file"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, content, how, options, words):
    with pytest.raises(DataError) as caught:
        load(tmp_path, content, how, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_read_what_is_no_utf8(tmp_path):
    content = b"caf\xe9 au lait\n" * 40
    found = load(tmp_path, content, "#bytes/windows/16")
    assert "".join(to_strings(found.splits["train"].x, found.reading)).startswith("caf\xe9 au lait\n")
