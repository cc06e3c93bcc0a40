"""`python -m experiments jacobians`: what it writes, how it resumes, and what it says to nonsense."""

import json
import sys
import time
from collections import Counter
from unittest.mock import Mock

import numpy as np
import pytest

import grads
from experiments.jacobians import command, grid, pictures, report
from experiments.jacobians.race import fastest, race
from experiments.running import store

EXACT = {"float32": 1e-5, "float64": 1e-12}
LOOSE = {"finite_difference": 1e-2, "randomized_svd": 1e-4}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The smallest comparison, measured once through the command line."""
    folder = tmp_path_factory.mktemp("out")
    assert command.main(["--tiny", "--out", str(folder)]) == 0
    return folder, json.loads((folder / "jacobians_tiny.json").read_text())


def test_every_registered_method_has_a_row_with_numbers_or_a_reason(tiny):
    _, record = tiny
    rows = {r["method"]: r for r in record["rows"]}
    assert set(rows) == {*grads.methods(), "auto"}
    for name, row in rows.items():
        assert ("left_out" in row) != ("ms" in row)
        if "ms" in row:
            assert 0 < row["ms"] < 1e3 * row["first_call_s"]
            assert row["compile_s"] < row["first_call_s"]
            assert row["output_bytes"] == 4 * row["n"] * row["m"]
            assert row["error"] < LOOSE.get(name, EXACT[row["dtype"]])
        else:
            assert row["left_out"]
    assert rows["chain"]["operations"] < rows["fwd"]["operations"]
    assert "axis 0" in rows["batched"]["left_out"]
    assert rows["auto"]["chosen"] in grads.methods()
    assert rows["auto"]["within_limit_bytes"] <= rows["auto"]["limit_bytes"]


def test_the_json_can_be_shown(tiny):
    _, record = tiny
    assert record["title"]
    assert record["command"] == "python -m experiments jacobians --tiny"
    assert record["lines"][0].startswith("1 of 1 cells: dense; encoder; batch 1; float32")
    assert any(line.startswith("auto: 1 cells") for line in record["lines"])
    assert max(map(len, record["lines"])) < 240


def test_pictures_are_written(tiny):
    image = pytest.importorskip("PIL.Image")
    folder, _ = tiny
    names = {p.stem.removeprefix("jacobians_tiny_") for p in folder.glob("*.png")}
    assert names == {"fastest", "slowdown", "memory", "accuracy", "compilation", "auto", "dimensions"}
    for path in folder.glob("*.png"):
        with image.open(path) as picture:
            assert np.asarray(picture.convert("L"), float).std() > 5, path.name


def test_a_killed_run_goes_on(tiny, monkeypatch, capsys):
    folder, before = tiny
    monkeypatch.setattr(grid, "measure_cell", lambda *a: pytest.fail("a finished cell was measured again"))
    monkeypatch.setattr(pictures, "draw", lambda *a, **k: [])
    assert command.main(["--tiny", "--out", str(folder)]) == 0
    assert json.loads((folder / "jacobians_tiny.json").read_text())["rows"] == before["rows"]
    (part,) = (folder / ".partial" / "jacobians_tiny-cells").glob("*.json")
    part.write_text(part.read_text()[:100])
    monkeypatch.setattr(grid, "measure_cell", Mock(side_effect=ValueError("measured again")))
    with pytest.raises(RuntimeError, match="dense encoder 1 float32: measured"):
        command.main(["--tiny", "--out", str(folder)])


def test_a_part_of_a_comparison_is_no_result(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "RESULTS", tmp_path)
    monkeypatch.setattr(store, "SCRATCH", tmp_path / "smoke")
    monkeypatch.setattr(pictures, "draw", lambda *a, **k: [])
    monkeypatch.setattr(grid, "measure_cell", lambda *a: tiny[1]["rows"])
    assert command.main(["--grid", "--only", "dense,encoder,1,float32"]) == 0
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("**/jacobians*.json")] == [
        "smoke/jacobians_auto.json"
    ]
    assert command.main(["--quick"]) == 0
    assert not list(tmp_path.glob("*.json"))
    assert command.main(["--grid"]) == 0
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text())["lines"][0].startswith("1 of 60 cells")  # the rows are copies of one


def row(method, ms, **more):
    return {"kind": "k", "part": "p", "batch": 1, "dtype": "float32", "method": method, "ms": ms, **more}


def test_auto_is_judged_against_the_best_exact_method():
    rows = [row("fwd", 8.0), row("chain", 2.0), row("finite_difference", 0.1), row("auto", 3.0, chosen="fwd")]
    found = report.summary(rows)
    assert (found["worst"], found["winner"], found["within_1.25"]) == (1.5, 0, 0)
    rows[-1] = row("auto", 2.0, chosen="chain")
    found = report.summary(rows)
    assert (found["worst"], found["winner"], found["within_1.25"]) == (1.0, 1, 1)


def test_the_cells_asked():
    full = list(grid.cells("full"))
    assert len(full) == 7 * 3 * 4 * 2
    assert len(list(grid.cells("auto"))) == 60
    some = command.selected(full, "dense,conv,encoder,16")
    assert some == [(k, "encoder", 16, d) for k in ("dense", "conv") for d in ("float32", "float64")]
    with pytest.raises(command.UsageError, match="did you mean recurrent"):
        command.selected(full, "recurent")


def test_a_race_reports_refusals_and_sees_each_result_once():
    def refuse(x):
        raise grads.UnsupportedMethodError("not this one")

    seen = []
    x = np.ones((8, 8))
    found = race(
        {"good": lambda x: x @ x, "bad": refuse}, (x,), seconds=0.01, see=lambda n, r: seen.append((n, r[0, 0]))
    )
    assert found["bad"].refused == "not this one"
    assert not found["good"].refused
    assert 0 < found["good"].run < found["good"].first
    assert found["good"].output == x.nbytes
    assert seen == [("good", 8.0)]


def test_entrants_with_one_program_share_its_time():
    x = np.ones((8, 8))
    same = {"ours": lambda x: x @ x, "theirs": lambda v: v @ v, "other": lambda x: x @ x + 1.0}
    found = race(same, (x,), seconds=0.05)
    assert found["ours"].run == found["theirs"].run != found["other"].run


def test_who_is_far_behind_leaves_the_race():
    clock, runs = {"slow": 0.004, "fast": 0.0}, Counter()

    def runner(name):
        def run():
            runs[name] += 1
            time.sleep(clock[name])

        return run

    found = fastest({name: runner(name) for name in clock}, 0.2)
    assert found["slow"] > 0.004 > 10 * found["fast"]
    assert runs["slow"] == 1 + 3 * 3  # a turn of one, three turns of three
    assert runs["fast"] > 2 * runs["slow"]


def test_crossing():
    x = (1, 10, 100)
    assert pictures.crossing(x, [1, 10, 100], [10**1.5, 10**1.5, 1]) == pytest.approx(10**1.2)
    assert pictures.crossing(x, [1, 1, 1], [2, 2, 2]) is None


OWN = """
import jax.numpy as jnp
def good(x): return jnp.sin(x)
def total(x): return (x**2).sum()
def constant(x): return 3.0
def mixed(x): return {"a": jnp.sin(x), "k": jnp.argmax(x)}
def fails(x): raise RuntimeError("first line\\nsecond line")
def lookup(i): return jnp.arange(10.0)[i]
def integer(x): return jnp.argmax(x)
def two(x, y): return x * y
value = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_functions.py").write_text(OWN)
    (tmp_path / "breaks.py").write_text("raise ValueError('at import')")
    (tmp_path / "lacks.py").write_text("import nothing_of_this_name")
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("own_functions", None)


@pytest.mark.parametrize(
    ("path", "shape", "code", "text"),
    [
        ("nowhere.to:f", "4", 2, "no module 'nowhere'"),
        ("own_functions", "4", 2, "package.module:name"),
        (":f", "4", 2, "package.module:name"),
        ("own_functions:goood", "4", 2, "did you mean good"),
        ("own_functions:value", "4", 2, "is no function but int"),
        ("own_functions:good", "4,x", 2, "whole numbers"),
        ("own_functions:good", "-4", 2, "positive"),
        ("own_functions:good", "2.5", 2, "whole numbers"),
        ("breaks:f", "4", 1, "importing breaks raised ValueError: at import"),
        ("lacks:f", "4", 1, "nothing_of_this_name"),
        ("own_functions:fails", "4", 1, "raised RuntimeError: first line"),
        ("own_functions:lookup", "4", 1, "raised TypeError: Indexer must have integer"),
        ("own_functions:integer", "4", 1, "floating point outputs"),
        ("own_functions:two", "4", 1, "missing 1 required positional argument"),
    ],
)
def test_nonsense_gets_one_line(own, capsys, path, shape, code, text):
    assert command.main(["--function", path, f"--shape={shape}"]) == code
    out, err = capsys.readouterr()
    assert text in err
    assert err.count("\n") == 1
    assert not out


def test_unknown_words_get_one_line(tmp_path, capsys):
    assert command.main(["--tiny", "--only", "densee", "--out", str(tmp_path)]) == 2
    assert "did you mean dense" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        command.main(["--quick", "--grid"])


def test_own_functions_are_compared(own, capsys, monkeypatch):
    names = ("fwd", "sparse")
    real = grads.compare
    monkeypatch.setattr(grads, "compare", lambda f, x: real(f, x, methods=names, seconds=0.01))
    for name, shape in (("total", "2,2"), ("total", ""), ("mixed", "3"), ("constant", "3")):
        assert command.main(["--function", f"own_functions:{name}", f"--shape={shape}"]) == 0, name
        assert "chosen:" in capsys.readouterr().out
