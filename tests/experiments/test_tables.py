"""Tables: every one runs on bundled data, goes on after a kill, and says what its numbers say."""

import functools
import importlib
import json
import math
import re
import shlex
import subprocess
import sys

import jax
import numpy as np
import pytest

import train
from data import load
from experiments.__main__ import experiments, line
from experiments.command import main
from experiments.reporting import pages, report
from experiments.reporting.words import describe, shelf
from experiments.running import group, run_table, store, study
from experiments.running.table import Pca, Table, rows_of
from models.config import ConfigError
from train import Config
from training.store import trial
from training.store.run_folder import read_json

from ..conftest import ROOT

TABLES = list(shelf())
STUDIES = {name for name, path in shelf().items() if path.parent.name != "tables"}
# These hold each kind of row and of figure; the rows of all tables are traced, and to train those too is a campaign.
IN_CI = {"beta", "isometry", "regularisation", "semisupervised", "vae"}
SMOKE = [n if n in IN_CI else pytest.param(n, marks=pytest.mark.campaign) for n in TABLES]


def table_of(name):
    """The TABLE or STUDY of an experiment."""
    module = importlib.import_module(f"experiments.{experiments()[name]}")
    return getattr(module, "TABLE", None) or module.STUDY


def rows_named(table, profile):
    """The rows that a profile runs."""
    return (study.rows_of if isinstance(table, study.Study) else rows_of)(table, profile)


def run(name, folder, *arguments):
    """Run a table's smoke profile; return its exit code and its record, None where there is none."""
    code = main(table_of(name), name, ["--profile", "smoke", "--results", str(folder), *arguments])
    return code, store.read_result(folder / f"{name}.json")


def facts(metrics, **rest):
    """A row of a hand-made record."""
    return {"paper": None, "bound": None, "metrics": {"mse": metrics}} | rest


def record_of(rows, **rest):
    """A hand-made record."""
    return {"metric": "mse", "columns": [], "differs": "", "rows": rows} | rest


def test_all_tables_are_found():
    assert len(TABLES) >= 7


@pytest.mark.parametrize("name", TABLES)
def test_every_table_states_its_terms_and_its_profiles_are_valid(name):
    words = describe(shelf()[name])
    assert all(words._replace(caveats="none"))
    assert f"experiments {name}" in words.command
    table = table_of(name)
    for profile in table.profiles.values():
        assert not isinstance(table, study.Study) or study.protocol_of(table, profile)
        rows = rows_named(table, profile)
        assert set(profile.only) <= set(table.rows)
        for row in rows.values():
            assert not isinstance(row.bound, str) or row.bound in table.rows


@pytest.mark.parametrize("name", SMOKE)
def test_smoke_profile_of_every_table(name, tmp_path):
    code, record = run(name, tmp_path)
    assert code == 0
    table = table_of(name)
    assert list(record["rows"]) == list(rows_named(table, table.profiles["smoke"]))
    for row in record["rows"].values():
        numbers = row["metrics"]
        shown = [numbers[table.metric]] if isinstance(table, Table) else numbers.values()
        assert all(math.isfinite(v) for values in shown for v in values)
    for key in ("claim", "source", "command", "minutes", "environment", "code_sha256"):
        assert record[key], key
    assert record["data"] or name in STUDIES  # of which some make their own
    assert all((tmp_path / figure).stat().st_size > 5_000 for figure in record["figures"])
    assert len(record["figures"]) == len(table.figures)
    assert not (tmp_path / ".partial" / f"{name}-smoke").exists()


@pytest.mark.parametrize("name", [n for n in TABLES if n not in IN_CI and isinstance(table_of(n), Table)])
def test_the_rows_of_every_table_trace(name):
    """Every structure that a smoke profile trains, on its data, as far as shapes go: to its metrics and pictures."""
    table = table_of(name)
    rows = [row for row in rows_named(table, table.profiles["smoke"]).values() if isinstance(row.run, train.Config)]
    for first, *_ in group.grouped([row.run for row in rows]):
        row = rows[first]
        splits, dataset = group.data_of(row.run, None)
        splits = group.limited(splits, row.examples, table.seen, row.known)
        (config,) = group.fitting([row.run], dataset)
        out = jax.eval_shape(functools.partial(group.run, measures=row.measures), config, splits)
        assert out["test"]


def test_an_interrupted_table_goes_on_where_it_stopped(tmp_path, monkeypatch):
    more = ("--metrics", "active_units", "probes", "--metrics-limit", "50")
    whole = run("digits", tmp_path / "calm", *more)[1]
    done = []

    def interrupt(table, job, result, count, total):
        done.append((job.seed, result.get("resumed", False)))
        if len(done) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(run_table, "announce", interrupt)
    plan = ("--plan", "sequential", *more)
    assert run("digits", tmp_path / "cut", *plan) == (130, None)
    code, record = run("digits", tmp_path / "cut", *plan)
    assert code == 0
    assert done == [(0, False), (0, True), (1, False)]
    for row, before in whole["rows"].items():
        for name, values in before["metrics"].items():
            assert record["rows"][row]["metrics"][name] == pytest.approx(values, rel=1e-5)
    assert {"linear_probe", "knn_probe"} <= set(record["columns"])
    assert record["units"] == whole["units"]
    why = "active_units: codes are points (posterior point): they have no density"
    (rows,) = [rows for found, rows in record["not_measured"].items() if found == why]
    assert rows == [row for row, what in record["rows"].items() if not what.get("exact")]
    said = report.text(record)
    assert f"not measured: {why} (" in said
    assert "linear_probe: accuracy" in said
    where = f"{tmp_path / 'cut' / 'digits.json'}"
    (command,) = re.findall(r"(?m)^train its best row: (.+)$", said)
    assert shlex.split(command) == ["python", "train.py", "--from-trial", f"{where}:autoencoder, 2 dimensions"]
    assert train.main(["--from-trial", where, "--no-figures", "--run-dir", str(tmp_path / "run")]) == 0
    alone = read_json(tmp_path / "run" / "summary.json")["test"]["mse"]
    grouped = record["rows"]["autoencoder, 2 dimensions"]["metrics"]["mse"][0]
    assert alone == pytest.approx(grouped, rel=1e-4)  # float32, as one of a group and alone


@pytest.mark.parametrize(("row", "message"), [(":none", "has no row 'none'; it has PCA"), (":PCA", "is a baseline")])
def test_a_row_that_is_no_run_has_no_command(row, message, tmp_path):
    pca = facts([1.0], config={"kind": "Pca", "dataset": "digits", "dims": 2})
    (tmp_path / "a.json").write_text(json.dumps(record_of({"PCA": pca})))
    assert trial.best_row(record_of({"PCA": pca})) is None
    with pytest.raises(ConfigError, match=message):
        trial.trial_config(Config, f"{tmp_path / 'a.json'}{row}")


def test_a_damaged_finished_run_runs_again(tmp_path):
    finished = store.Finished(tmp_path)
    finished.put(["a"], {"pictures": np.zeros((1, 2)), "test": {"mse": math.inf, "mae": [-math.inf, 0.1]}})
    assert finished.get(["a"]) == {"pictures": [[0, 0]], "test": {"mse": math.inf, "mae": [-math.inf, 0.1]}}
    assert finished.get(["b"]) is None
    assert store.Finished(tmp_path, ("train.py",)).get(["a"]) is None
    finished.path(["a"]).write_text('{"test": ')
    assert finished.get(["a"]) is None


def test_pca_rows_are_pca():
    found = run_table.baseline(Pca("digits", 4), None)["test"]
    splits = load("digits").splits
    x, t = (splits[k].x.reshape(-1, 64) / 16 for k in ("train", "test"))
    _, vectors = np.linalg.eigh(np.cov(x.T))
    centred = t - x.mean(0)
    rest = centred - centred @ vectors[:, -4:] @ vectors[:, -4:].T
    assert found["squared_error"] == pytest.approx(np.sum(rest**2) / len(t), rel=1e-9)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(rest**2)), rel=1e-9)


VERDICTS = [
    (facts([1.0, 1.1, 0.9], paper=2.0, bound=1.2), "better; bound met"),
    (facts([1.0, 1.1, 0.9], paper=1.05, bound=0.8), "inside; bound missed"),
    (facts([3.0, 3.1, 2.9], paper=2.0), "worse"),
    (facts([3.0], paper=2.0), "worse (1 seed)"),
    (facts([2.1], paper=2.0, exact=True), "+5.0%"),
    (facts([1.0, 1.1, 0.9], bound="other"), "below other"),
    (facts([2.0, 2.0, 2.0], bound="base"), "as base"),
    (facts([math.inf, 1.0, 1.1], paper=9.0, diverged=[{"step": 1}, None, None]), "1 of 3 diverged; better"),
    (facts([math.nan] * 3, paper=9.0, diverged=[{"step": 1}] * 3), "3 of 3 diverged"),
]


@pytest.mark.parametrize(("row", "words"), VERDICTS)
def test_verdicts(row, words):
    rows = {"other": facts([1.2, 1.3, 1.1]), "base": facts([2.0], exact=True), "ours": row}
    assert report.verdict(record_of(rows), "ours") == words


def test_differences_between_rows_are_paired_by_seed():
    noise = np.array([0.0, 5.0, -3.0, 9.0])
    rows = {"a": facts(list(10 + noise)), "b": facts(list(9.9 + noise + [0.01, 0, 0, -0.01]), bound="a")}
    assert report.verdict(record_of(rows), "b") == "below a"  # the intervals of the means overlap almost wholly


def test_another_protocol_is_not_compared():
    record = record_of({"r": facts([1.0, 1.0], paper=2.0, bound=0.5)}, differs="2 epochs")
    assert report.verdict(record, "r") == "not comparable"


def test_printed_table_leaves_out_empty_columns():
    rows = report.table_of(record_of({"r": facts([1.0, 2.0])}))
    assert rows == [["row", "ours: mse"], ["r", "1.5 [-4.853, 7.853]"]]


def test_record_survives_its_file(tmp_path):
    path = tmp_path / "t.json"
    value = {"a": {"b": [0.1, 1e-20], "c": {"d": "β", "e": []}}, "n": math.pi, "none": None, "f": [math.inf, 1.0]}
    value |= {"rows": [{"k": 1}, {"k": [2, {"l": -math.inf}]}]}
    store.write_result(path, value)
    assert store.read_result(path) == value | {"n": 3.141593}
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["f"] == ["inf", 1.0]  # nan is no JSON
    assert '  {"k": 1},\n' in path.read_text()


def test_pages_follow_the_results(tmp_path):
    rows = {"r": facts([1.0, 2.0])}
    env = {"devices": ["0: cpu"], "backend": "cpu", "packages": {"jax": "1"}, "git": None}
    rest = {"title": "T", "claim": "C.", "source": "S.", "command": "run", "seeds": [0, 1], "profile": "cpu"}
    rest |= {"programs": 1, "minutes": 1.0, "cores": 2, "environment": env, "data": {}, "figures": ["t.png"]}
    store.write_result(tmp_path / "t.json", record_of(rows, **rest))
    page = "before\n<!-- results: t -->\nold\n<!-- /results -->\nafter\n<!-- results: u -->\n<!-- /results -->\n"
    new = pages.rewrite(page, tmp_path)
    assert "| r   | 1.5 [-4.853, 7.853] |" in new
    assert "old" not in new
    assert "not run yet: `python -m experiments u`" in new
    assert new.startswith("before\n")
    assert pages.rewrite(new, tmp_path) == new
    store.write_result(tmp_path / "t.json", record_of({"r": facts([1.0, 2.5])}, **rest))
    assert pages.rewrite(new, tmp_path) != new
    assert "![T](./t.png)" in pages.page(tmp_path)


def test_the_pages_in_the_repository_equal_the_results():
    text = (ROOT / "README.md").read_text()
    assert pages.rewrite(text) == text, "run: python -m experiments readme"
    path = store.RESULTS / "README.md"
    if any(store.RESULTS.glob("*.json")):
        assert path.read_text() == pages.page(), "run: python -m experiments readme"


BAD = [
    (["--seeds", "0"], 2, r"--seeds must be at least 1, got 0"),
    (["--profile", "huge"], 2, r"invalid choice: 'huge'"),
    (["--plan", "fast"], 2, r"--plan must be .* got 'fast'"),
    (["--data-dir", "/nowhere"], 1, r"data_dir '/nowhere' is not a folder"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD)
def test_bad_options_are_one_line(arguments, code, message, tmp_path, capsys):
    try:
        found = main(table_of("digits"), "digits", ["--results", str(tmp_path), *arguments])
    except SystemExit as exit:
        found = exit.code
    assert found == code
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_a_bad_row_is_refused_before_anything_runs():
    from models.config import ConfigError

    table = Table({"r": table_of("beta").rows["β = 1"]}, {"p": table_of("beta").profiles["cpu"]}, "mse")
    profile = table.profiles["p"]._replace(change={"model.latnt": 3})
    with pytest.raises(ConfigError, match=r"latnt.*latent"):
        rows_of(table, profile)
    assert isinstance(rows_of(table, table.profiles["p"])["r"].run, Config)
    assert json.dumps(store.rounded({"a": [1.23456789, "x"]})) == '{"a": [1.234568, "x"]}'


def test_the_list_says_what_the_record_says(tmp_path):
    words = describe(shelf()["vae"])
    assert not re.search(r"\d+ (minutes|hours)", words.cost)  # it is the record that knows
    store.write_result(tmp_path / "vae.json", {"profile": "cpu", "date": "2001-02-03", "minutes": 41.2, "cores": 3})
    text = line("vae", words, tmp_path)
    assert "cost: 41 minutes on 3 cores: 3 seeds" in text
    assert "done (cpu, 2001-02-03)" in text
    (tmp_path / "vae.json").write_text("{")
    assert "damaged JSON: run it again" in line("vae", words, tmp_path)


def test_the_list_ends_without_a_word_when_its_reader_has_left():
    list_all = [sys.executable, "-m", "experiments"]
    with subprocess.Popen(list_all, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_the_list_loads_no_jax():
    code = "import sys; from experiments.__main__ import main; main([]); sys.exit('jax' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    entries = {text.split()[0]: text for text in re.split(r"\n(?=\S)", out)}
    others = {"convolution", "first_runs", "geometry_costs", "groups", "ledger", "parts", "throughput", "jacobians"}
    assert set(entries) == {*TABLES, *others}
    for name in TABLES:  # a table whose result is committed says so, and no other does
        assert ("done (" in entries[name]) == (store.RESULTS / f"{name}.json").exists(), name


def test_every_committed_result_has_a_day():
    for path in store.RESULTS.glob("*.json"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", store.read_result(path)["date"]), path.name
