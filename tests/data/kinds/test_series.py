"""Series: windows that stay in their block of time, time recognised, series with classes, one line for bad input."""

import numpy as np
import pytest

import data
from data.errors import DataError
from data.options import Options

RNG = np.random.default_rng(0)
STEPS = 400
WAVE = np.stack([np.arange(STEPS), RNG.normal(size=STEPS), np.full(STEPS, 2.0)], axis=1)


def hours(n):
    return [f"2020-01-{i // 24 + 1:02d} {i % 24:02d}:00:00" for i in range(n)]


def table(tmp_path, times, columns="time,a,b"):
    rows = [f"{t},{i % 7},{i * 0.5}" for i, t in enumerate(times)]
    (tmp_path / "a.csv").write_text("\n".join([columns, *rows]))
    return tmp_path / "a.csv"


def load(place, how="", **options):
    return data.load(f"file:{place}{how}", options=Options(**options))


def test_windows_are_the_series_and_none_crosses_a_border(tmp_path):
    """The first column counts the steps: of each window and split they are known."""
    np.save(tmp_path / "a.npy", WAVE)
    found = load(tmp_path / "a.npy", "#windows/20/3")
    assert found.shape == (20, 3)
    assert (found.kind, found.constant) == ("series", ["3"])
    for key, (a, b) in {"train": (0, 320), "validation": (320, 360), "test": (360, 400)}.items():
        x = found.splits[key].x
        np.testing.assert_array_equal(x[:, 0, 0], np.arange(a, b - 19, 3))
        np.testing.assert_array_equal(x[..., 0], x[:, :1, 0] + np.arange(20))
    train = found.splits["train"].x[..., 1]
    assert found.scale.shift[1] == pytest.approx(train.mean())  # fitted on the training split


def test_a_column_of_time_is_recognised_and_names_windows(tmp_path):
    place = table(tmp_path, hours(300))
    found = load(place, "#windows/12")
    assert found.columns == ("a", "b")
    assert "column 'time' is time, in steps of 1 hour" in found.line()
    again = data.read(place, like=found.record())
    assert again.names[:2] == ["2020-01-01 00:00:00", "2020-01-01 01:00:00"]
    np.testing.assert_array_equal(again.x[: len(found.splits["train"])], found.splits["train"].x)
    assert load(place).kind == "series"  # by its column of time alone
    assert load(place, ignore=("time",)).kind == "table"


def test_series_of_the_archive_have_classes_and_dimensions(tmp_path):
    lines = [f"{i},1,2:{i},5,{i % 3}:{'ab'[i % 2]}" for i in range(40)]
    head = ["#made", "@problemName x", "@univariate false", "@classLabel true a b", "@data"]
    (tmp_path / "x.ts").write_text("\n".join([*head, *lines]))
    found = load(tmp_path / "x.ts")
    assert (found.shape, found.classes, len(found.splits["train"])) == ((3, 2), ("a", "b"), 32)
    for split in found.splits.values():
        i = split.x[:, 0, 0].astype(int)
        np.testing.assert_array_equal(split.y, i % 2)
        np.testing.assert_array_equal(split.x[:, 2, 1], i % 3)
    cut = load(tmp_path / "x.ts", "#windows/2/1")  # many series: each in one split as a whole
    firsts = [set(split.x[::2, 0, 0].tolist()) for split in cut.splits.values()]
    assert sum(map(len, firsts)) == len(set.union(*firsts)) == 40


TS = "@problemName x\n@classLabel false\n@data\n"
BAD = {
    "empty.npy": (np.zeros((0, 2)), "#windows", "the series has no steps"),
    "short.npy": (WAVE, "#windows/500", "windows of 500 steps are longer than the series of 400 steps"),
    "tenth.npy": (WAVE, "#windows/50", "shorter windows: file:...#windows/40"),
    "constant.npy": (np.ones((300, 2)), "#windows", "every column is constant"),
    "endless.npy": (np.where(np.arange(400)[:, None] == 9, np.inf, WAVE), "#windows", "not finite"),
    "hollow.npy": (np.where(np.arange(400)[:, None] > 340, np.nan, WAVE), "#windows/20", "no window of test holds a"),
    "bare.npy": (WAVE * [1, np.nan, 1], "#windows/20", "column '2' has no value in the training split"),
    "few.npy": (WAVE[:3], "#windows/2", "give a longer series"),  # no window is short enough
    "words.npy": (WAVE, "#windows/many", "'many' after # is none of windows, whole"),
    "one.npy": (WAVE[:, 0], "#whole", "one series is one example"),
    "missing.ts": (TS + "?,?,?\n" + "1,2,3\n" * 12, "", "series 1: every value is missing"),
    "cut.ts": ("@problemName x\n", "", "without @data"),
    "uneven.ts": (TS + "\n".join(",".join("1" * (i + 4)) for i in range(12)), "", "series of 4 to 15 steps"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_one_line(tmp_path, name):
    content, how, words = BAD[name]
    if isinstance(content, str):
        (tmp_path / name).write_text(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        load(tmp_path / name, how)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_out_of_order_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"row 3 \(2020-01-05 02:00:00\) is earlier .* sort the rows by time"):
        load(table(tmp_path, hours(100)[::-1]))


@pytest.mark.parametrize("kind", ["csv", "gaps.csv", "npy", "ts"])
def test_missing_steps_are_nan_and_windows_of_nothing_else_are_left_out(tmp_path, kind):
    """Of every kind of file the same windows, those of the whole series with holes where the holes are."""
    x = RNG.integers(1, 90, (200, 1)).astype(float)
    x[[5, 111]], x[60:66] = np.nan, np.nan
    if kind.endswith("csv"):
        said = ["" if np.isnan(v) else f"{v:g}" for v in x[:, 0]]
        rows = [f"{at},{v}" for at, v in zip(hours(200), said, strict=True) if v or kind == "csv"]
        (tmp_path / f"a.{kind}").write_text("time,a\n" + "\n".join(rows))
    elif kind == "npy":
        np.save(tmp_path / "a.npy", x)
    else:
        (tmp_path / "a.ts").write_text(TS + ",".join("?" if np.isnan(v) else f"{v:g}" for v in x[:, 0]) + "\n")
    found = load(tmp_path / f"a.{kind}", "#windows/4/1")
    assert found.missing
    words = "8 steps have no row" if kind == "gaps.csv" else "8 values are missing"
    assert any(words in r for r in found.remarks)
    parts = [x[:160], x[160:180], x[180:]]
    for split, part in zip(found.splits.values(), parts, strict=True):
        every = np.stack([part[i : i + 4] for i in range(len(part) - 3)])
        np.testing.assert_array_equal(split.x, every[~np.isnan(every).all((1, 2))])
    assert len(found.splits["train"].x) == 157 - 3
    again = data.read(tmp_path / f"a.{kind}", like=found.record())
    assert len(again.x) == len(again.names) == 197 - 3


def test_a_run_on_whole_series_refuses_missing_values(tmp_path):
    place = table(tmp_path, hours(100))
    record = load(place).record()
    place.write_text(place.read_text().replace(",6,", ",,", 1))
    with pytest.raises(DataError, match="1 value is missing: a"):
        data.read(place, like=record)


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("series", "a.npy", ""),
        ("table", "a.npy", ""),
        ("image", "a.npy", "--kind image .* was asked for, its values are of kind table"),
        ("text", "a.npy", "does not fit this file, which can be table or image or series"),
        ("table", "a.txt", "does not fit this file, which can be text"),
    ],
)
def test_a_wrong_kind_is_refused_in_one_line(tmp_path, kind, name, words):
    np.save(tmp_path / "a.npy", WAVE[:, :2])
    (tmp_path / "a.txt").write_text("to be or not to be\n" * 30)
    if not words:
        assert load(tmp_path / name, kind=kind).kind == kind
        return
    with pytest.raises(DataError, match=words):
        load(tmp_path / name, kind=kind)
