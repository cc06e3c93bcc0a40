"""Files of ratings: every layout is one set, and what is no rating is one line."""

import numpy as np
import pytest

import data
from data import DataError
from data.files.kinds.ratings import choices
from data.options import Options

RNG = np.random.default_rng(0)
PAIRS = [(u, int(i), int(RNG.integers(1, 6)), 880_000_000 + u) for u in range(30) for i in RNG.choice(20, 8, False)]
RATINGS = Options(kind="ratings")
ROWS = lambda separator, pairs=PAIRS: "\n".join(separator.join(map(str, p)) for p in pairs)
HEAD = "userId,movieId,rating,timestamp\n"


def wanted() -> np.ndarray:
    """Return who gave at least 4, made cell by cell; users and items without a choice left out."""
    out = np.zeros((30, 20), int)
    for u, i, r, _ in PAIRS:
        out[u, i] = r >= 4
    return out[out.any(1)][:, out.any(0)]


@pytest.mark.parametrize("name", ["u.data", "ratings.dat", "ratings.csv", "own.tsv", "a.npz"])
def test_every_layout_is_one_row_of_choices_a_user(tmp_path, name):
    path = tmp_path / name
    if name == "a.npz":
        np.savez(path, **{k: [p[j] for p in PAIRS] for j, k in enumerate(("user", "item", "rating"))})
    else:
        text = {"u.data": ROWS("\t"), "ratings.dat": ROWS("::"), "ratings.csv": HEAD + ROWS(",")}
        path.write_text(text.get(name, "user\titem\trating\ttime\n" + ROWS("\t")))
    found = choices(path, "")
    order = np.argsort(np.array(found.users, int))
    items = np.argsort(np.array(found.items, int))
    np.testing.assert_array_equal(found.rows()[order][:, items], wanted())
    loaded = data.load(f"file:{path}", options=RATINGS if name[:3] in ("own", "a.n") else Options())
    assert loaded.kind == "ratings"
    assert sum(len(s) for s in loaded.splits.values()) == len(wanted())
    assert f"{wanted().sum():,} choices" in loaded.line()


def test_other_users_are_read_by_the_items_of_training_and_pairs_given_twice_count_once(tmp_path):
    (tmp_path / "a.csv").write_text(
        "user,item,rating\n" + "\n".join(f"{u},{i},{r}" for u, i, r, _ in [*PAIRS, PAIRS[0]])
    )
    loaded = data.load(f"file:{tmp_path / 'a.csv'}#5", options=RATINGS)
    assert any("1 pair given more than once" in r for r in loaded.remarks)
    assert any("at least 5" in r for r in loaded.remarks)
    item = loaded.columns[3]
    (tmp_path / "new.csv").write_text(f"user,item,rating\nme,{item},5\nme,999,5\nyou,{item},4\n")
    found = data.read(tmp_path / "new.csv", like=loaded.record())
    assert found.names == ["me"]
    assert np.flatnonzero(found.x[0]).tolist() == [3]
    assert {"1 item not there in training: left out", "left out for having no choice: 1 user, 0 items"} <= {
        *found.remarks
    }


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("u.data", "1\t2\t7\t0\n1\t3\t4\t0\n", r"row 1: rating 7 is outside 1\.\.5"),
        ("a.csv#6", "user,item,rating\n" + ROWS(","), "row 2 has 4 fields"),
        ("ratings.csv#6", HEAD + ROWS(","), "none of 240 ratings is at least 6.*use #5"),
        ("ratings.csv#x", HEAD + ROWS(","), "the least rating that is a choice, a number such as 4, got 'x'"),
        ("a.csv#3", "user,item\n1,2\n", "the file holds no ratings; leave #3 away"),
        ("a.csv", "user,item,rating\n1,2,3\n1,x,nine\n", "row 3: rating nan is no number"),
        ("a.csv", "user,item,rating\n1,2,3\n,5,4\n", "row 3: the user is missing"),
        ("a.csv", "user,item,rating\n1,2,300\n1,5,7\n", "say from which one on they are a choice"),
        ("a.csv", "a,b,c\n1,2,3\n1,5,4\n", "need columns user and item"),
        ("a.csv", "user,item,rating\n1,2,3\n1,5\n", "row 3 has 2 fields"),
        ("a.csv", "user,item,rating\n", "a header but no ratings"),
        ("a.csv", "user,item,rating\n1,2,5\n1,5,4\n", "1 user and 2 items with a choice are too few"),
        ("a.txt", "user,item\n1,2\n", "does not fit this file"),
    ],
)
def test_what_is_no_rating_is_one_line(tmp_path, name, text, says):
    (tmp_path / name.partition("#")[0]).write_text(text)
    with pytest.raises(DataError, match=says) as refused:
        data.load(f"file:{tmp_path / name}", options=RATINGS)
    assert "\n" not in str(refused.value)
