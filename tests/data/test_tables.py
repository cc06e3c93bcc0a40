"""Tables as people have them: headers, separators, decimal commas, labels, texts, dates, holes, encodings."""

import gzip
import json

import numpy as np
import pytest

import data
from data.errors import DataError
from data.options import Options


def load(tmp_path, text, name="a.csv", like=None, **options):
    path = tmp_path / name
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    return data.read(path, Options(**options), like=like)


def rows(n=12, columns=2, start=0.5, separator=","):
    return "\n".join(separator.join(f"{start + i * columns + j}" for j in range(columns)) for i in range(n))


VALUES = np.arange(24).reshape(12, 2) + 0.5


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (rows(), ("1", "2")),
        ("a,b\n" + rows(), ("a", "b")),
        ("﻿a,b\r\n" + rows().replace("\n", "\r\n"), ("a", "b")),
        ("0,1\n" + rows(), ("0", "1")),  # names that are numbers, as pandas writes them
        ("1990,1991\n" + rows(), ("1990", "1991")),
        ("# a,b\n" + rows(), ("a", "b")),  # numpy.savetxt
        ("a;b\n" + rows(separator=";"), ("a", "b")),
        ("a;b\n" + rows(separator=";").replace(".", ","), ("a", "b")),
        ("a\tb\n" + rows(separator="\t"), ("a", "b")),
        ("a b\n" + rows(separator="  "), ("a", "b")),
        ("# a b\n" + rows(separator=" "), ("a", "b")),
        (",a,b\n" + "\n".join(f"{i},{line}" for i, line in enumerate(rows().split("\n"))), ("a", "b")),
        ("id,a,b\n" + "\n".join(f"{7 * i},{line}" for i, line in enumerate(rows().split("\n"))), ("a", "b")),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_the_same_table_in_many_dresses(tmp_path, text, columns, name):
    found = load(tmp_path, text, name)
    np.testing.assert_array_equal(found.x, VALUES)
    assert found.columns == columns


def test_a_thousand_is_not_one(tmp_path):
    """Between commas that separate, "1,000" is no decimal comma: it was read as 1."""
    with pytest.raises(DataError, match="'1,000' is not a number"):
        load(tmp_path, 'a,b\n"1,000",2\n' + rows())
    assert load(tmp_path, 'a,b\n"1,5",2\n' + rows().replace(".5", "")).x[0, 0] == 1.5


def test_a_first_row_of_values_is_no_header(tmp_path):
    assert len(load(tmp_path, "1,2\n" + "\n".join("3,4" for _ in range(11))).x) == 12
    assert len(load(tmp_path, "\n".join(f"{i},{i + 1},{i + 2},{i + 3}" for i in range(12)), label="none").x) == 12


def test_labels_by_name_by_option_by_text(tmp_path):
    body = [f"{i}.5,{i % 3},{'uvw'[i % 3]}" for i in range(12)]
    found = load(tmp_path, "a,Class,b\n" + "\n".join(body))
    np.testing.assert_array_equal(found.labels, np.arange(12) % 3)
    assert found.columns == ("a", "b=u", "b=v", "b=w")
    found = load(tmp_path, "a,k,b\n" + "\n".join(body))
    assert list(found.labels[:3]) == ["u", "v", "w"]
    assert found.columns == ("a", "k")
    found = load(tmp_path, "a,k,b\n" + "\n".join(body), label="k")
    np.testing.assert_array_equal(found.labels, np.arange(12) % 3)
    found = load(tmp_path, "a,k,b\n" + "\n".join(body), label="none")
    assert found.labels is None
    assert found.x.shape == (12, 5)
    with pytest.raises(DataError, match="no column 'kk'; nearest: k"):
        load(tmp_path, "a,k,b\n" + "\n".join(body), label="kk")


def test_a_real_valued_y_is_no_class(tmp_path):
    found = load(tmp_path, "a,y\n" + rows())
    assert found.labels is None
    assert found.columns == ("a", "y")
    assert any("'y' is kept as a value" in r for r in found.remarks)
    np.savez(tmp_path / "a.npz", X=VALUES, y=np.arange(12) / 7)
    assert data.load(f"file:{tmp_path / 'a.npz'}").labels is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1_000,2\n3,4\n", "column 'a', row 2: '1_000' is not a number"),
        ('a,b\n"1,000",2.5\n3.5,4\n', "column 'a', row 2: '1,000' is not a number"),
        ("a,b\n1,2%\n3,4\n", "column 'b', row 2: '2%' is not a number"),
        ("a,b\n1,inf\n3,4\n", "column 'b', row 2: 'inf' is not a number"),
        ("a,b\n1,NA\n3,\n,\n", r"4 values are missing: a \(1\), b \(3\).*row 2, column 'b'"),
        ("a,b\n1,NA\n3,4\n,?\n", "row 4: every value is missing; leave"),
        ("a,b\n1,NA\n,\n3,4\n,?\n", r"row 3: every value is missing \(2 rows are so\)"),
        ("a,label\n1.5,1\n2,\n3,0\n4,1\n", r"row 3: the label \(column 'label'\) is missing"),
        ("b,t\n2,2024-01-01\n4,2024-01-02\n", "column 't' holds dates .*--ignore t"),
        ("b,t\n2,01/02/2024 10:00\n4,02/02/2024 11:00\n", "holds dates"),
        ("name,b,c\n" + "\n".join(f"n{i},{i},u{i % 2}" for i in range(200)), "200 different values"),
        ("a,b\n1,2\n3\n", "row 3 has 1 fields"),
        ("5.1,3.5,oops\n1,2,3\n", "row 1: 'oops' is not a number"),
        ('a,b\n"1,2\n', "not readable as csv"),
        ("a,a\n1,2\n", None),
        (b"a,b\n\xe9t\xe9,2\n", "not UTF-8: byte 0xe9 in line 2 .*été"),
        (b"a,b\n1\x00,2\n", "zero bytes"),
    ],
)
def test_what_cannot_be_done_right_is_refused_in_one_line(tmp_path, text, says):
    if says is None:
        assert load(tmp_path, text).columns == ("a", "a.2")
        return
    with pytest.raises(DataError, match=says) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_utf16_is_read(tmp_path):
    assert load(tmp_path, ("a,b\n" + rows()).encode("utf-16")).columns == ("a", "b")


def test_dates_left_out_make_blocks(tmp_path):
    (tmp_path / "a.csv").write_text("t,v\n" + "\n".join(f"2024-01-{i + 1:02},{i * 1.5}" for i in range(30)))
    loaded = data.load(f"file:{tmp_path / 'a.csv'}", options=Options(ignore=("t",)))
    assert "blocks" in loaded.notes
    assert loaded.splits["test"].x[:, 0].tolist() == [40.5, 42.0, 43.5]


def test_another_file_is_read_like_the_first(tmp_path):
    text = "id,colour,size,kind\n" + "\n".join(
        f"{i},{('red', 'blue')[i % 2]},{i * 1.5},{'uv'[i % 2]}" for i in range(20)
    )
    (tmp_path / "a.csv").write_text(text)
    options = Options(label="kind")
    record = json.loads(json.dumps(data.load(f"file:{tmp_path / 'a.csv'}", options=options).record()))
    assert record["columns"] == ["colour=blue", "colour=red", "size"]
    assert record["classes"] == ["u", "v"]
    found = load(tmp_path, "size,colour,extra\n1.5,red,9\n2.5,red,8.5\n", "b.csv", like=record)
    np.testing.assert_array_equal(found.x, [[0, 1, 1.5], [0, 1, 2.5]])
    assert any("'extra' was not there in training" in r for r in found.remarks)
    for bad, says in (
        ("size,colour\n1.5,green\n", "'green', which was not there in training"),
        ("size\n1.5\n", "columns of the training data are not there: colour=blue"),
        ("size,colour\nlarge,red\n", "held numbers, now texts"),
    ):
        with pytest.raises(DataError, match=says):
            load(tmp_path, bad, "c.csv", like=record)


def test_missing_values_are_nan_and_the_scale_is_that_of_the_others(tmp_path):
    """A missing category is missing in each of its columns; other data of such a run may have missing values too."""
    rng = np.random.default_rng(0)
    full = rng.normal(3, 2, (60, 2))
    holed = np.where(rng.random(full.shape) < 0.2, np.nan, full)
    holed[np.isnan(holed).all(1), 0] = 3.0
    kind = ["" if i % 7 == 3 else "xy"[i % 2] for i in range(60)]
    field = lambda v: "" if np.isnan(v) else repr(float(v))
    rows = [f"{field(a)},{k},{field(b)}" for (a, b), k in zip(holed, kind, strict=True)]
    (tmp_path / "a.csv").write_text("a,kind,b\n" + "\n".join(rows))
    found = data.load(f"file:{tmp_path / 'a.csv'}", options=Options(label="none", scale="standardise"))
    assert found.columns == ("a", "kind=x", "kind=y", "b")
    assert found.missing
    every = np.concatenate([s.x for s in found.splits.values()])
    assert np.isnan(every).sum() == np.isnan(holed).sum() + 2 * kind.count("")
    np.testing.assert_array_equal(np.isnan(every[:, 1]), np.isnan(every[:, 2]))
    scaled = found.scale.apply(found.splits["train"].x)
    np.testing.assert_allclose(np.nanmean(scaled, 0), 0, atol=1e-6)
    np.testing.assert_allclose(np.nanstd(scaled, 0), 1, rtol=1e-5)
    (tmp_path / "b.csv").write_text("a,kind,b\n,y,2\n")
    np.testing.assert_array_equal(data.read(tmp_path / "b.csv", like=found.record()).x, [[np.nan, 0, 1, 2]])


def test_parquet(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": VALUES[:, 0], "b": VALUES[:, 1], "species": ["x", "y"] * 6}), path)
    found = data.read(path)
    np.testing.assert_array_equal(found.x, VALUES)
    assert (found.columns, list(found.labels[:2])) == (("a", "b"), ["x", "y"])
    pq.write_table(pa.table({"a": [1.0, None, 2.0], "b": [1, 2, 3]}), path)
    found = data.read(path)
    np.testing.assert_array_equal(found.x, [[1, 1], [np.nan, 2], [2, 3]])
    assert any("1 value is missing: a (1)" in r for r in found.remarks)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="damaged parquet"):
        data.read(path)


def test_splits_are_stratified_by_a_stated_seed_and_no_rule_on_the_index_shows(tmp_path):
    y = np.arange(200) % 10  # a cyclic order, which every rule on the index hits
    np.savez(tmp_path / "a.npz", X=np.random.default_rng(0).normal(size=(200, 2)), y=y)
    loaded = data.load(f"file:{tmp_path / 'a.npz'}")
    for part, each in (("train", 16), ("validation", 2), ("test", 2)):
        assert np.bincount(loaded.splits[part].y).tolist() == [each] * 10
    assert "every class in proportion" in loaded.notes
    assert "seed 0" in loaded.notes
    blocks = data.load(f"file:{tmp_path / 'a.npz'}", options=Options(split="blocks"))
    assert blocks.splits["test"].y.tolist() == (y[-20:]).tolist()
    with pytest.raises(DataError, match="--split given needs splits"):
        data.load(f"file:{tmp_path / 'a.npz'}", options=Options(split="given"))


@pytest.mark.parametrize(("head", "said"), [("a,b,", True), ("a,b", True), ("a,b,c", False)])
def test_a_separator_that_ends_every_row_is_passed_over_unless_its_column_has_a_name(tmp_path, head, said):
    (tmp_path / "a.csv").write_text(head + "\n" + "".join(f"{i * 7 % 5},{i * i},\n" for i in range(20)))
    if said:
        found = data.load(f"file:{tmp_path / 'a.csv'}")
        assert (found.columns, found.shape) == (("a", "b"), (2,))
        assert "separator at the end of every row passed over" in found.remarks
    else:
        with pytest.raises(DataError, match="20 values are missing: c"):
            data.load(f"file:{tmp_path / 'a.csv'}")


def test_signs_of_per_cent_are_taken_off_where_every_value_has_one(tmp_path):
    text = "a,share\n" + "\n".join(f"{i}.5,{7 - i} %" for i in range(12))
    found = load(tmp_path, text)
    np.testing.assert_array_equal(found.x[:, 1], 7 - np.arange(12))
    assert "signs of per cent taken off: share" in found.remarks
    with pytest.raises(DataError, match="row 2: '7 %' is not a number, others there are"):
        load(tmp_path, text.replace("6 %", "6"))


def test_columns_of_one_name_are_told_apart(tmp_path):
    found = load(tmp_path, "a,a.2,a,a\n" + rows(columns=4))
    assert found.columns == ("a", "a.2", "a.3", "a.4")
    assert "columns of one name, told apart: the next 'a' is 'a.3', 'a' is 'a.4'" in found.remarks


def test_damaged_gzip_is_one_line_though_the_first_lines_are_looked_at_before(tmp_path):
    content = gzip.compress(b"a,b\n1.5,2\n" * 9)
    (tmp_path / "a.csv.gz").write_bytes(content[:10] + b"\xff" * 40)
    with pytest.raises(DataError, match="damaged gzip data"):
        data.load(f"file:{tmp_path / 'a.csv.gz'}")
