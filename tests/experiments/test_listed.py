"""Metrics of the list as numbers of runs: of the model that was tested, named and explained; by name for workers."""

import math

import numpy as np
import pytest

import train
from experiments.__main__ import main as experiments
from experiments.running import group
from experiments.running.listed import Listed, columns_of, finished, lines_of
from experiments.search import training
from experiments.search.__main__ import main as search
from experiments.search.problem import load_problem, named
from experiments.search.report.table import not_measured_of, to_csv, units_of
from experiments.search.workers.execute import judge
from models import Dense, Model, posteriors, priors
from models.metrics import Measured, registry
from training.inputs import Inputs
from training.optimizers import Updates

DIGITS = Inputs(*group.data_of(train.Config(), None))
QUICK = Listed(("errors", "codes", "mig", "probes"))
CODES = Model(
    encoder=Dense(hidden=(8,)), latent=2, posterior=posteriors.FSQPosterior(levels=3), prior=priors.CodesPrior()
)


@pytest.fixture(scope="module")
def trial():
    """A trial of a sweep, measured: its parameters are averaged, so those that are tested are not the last ones."""
    config = train.Config(model=CODES, epochs=1, batch_size=100, updates=Updates(ema=0.9))
    (found,) = load_problem(named("experiments.search.training:problem", (QUICK,))).run_group([config], None, 1)
    return found


def test_the_tested_model_is_measured_on_the_test_examples(trial):
    """Its squared error is that which the run's own program found, and the codes' is that of every code's mean."""
    assert trial["test_errors_mse"] == pytest.approx(trial["test_mse"], rel=1e-6)
    assert trial["test_coded_squared_error"] == pytest.approx(64 * trial["test_mse"], rel=1e-6)
    assert trial["test_code_rate_bits"] == pytest.approx(2 * math.log2(3))
    assert 0 < trial["test_linear_probe_standard_error"] < trial["test_linear_probe"] < 1
    assert trial["units"]["test_linear_probe"] == "accuracy"
    assert trial["not_measured"] == {"mig": "the data have no known factors (dataset sprites has)"}


def test_columns_of_a_sweep_and_why_others_are_missing(trial):
    result = judge(trial)
    assert result["status"] == "ok"
    spec = {"point": 0, "rung": 0, "seed": 0, "fold": 0, "budget": {}, "values": {}}
    records = [{"key": "a", "spec": spec, "result": result}]
    header, line = (text.split(",") for text in to_csv(records, ()).strip().splitlines())
    cells = dict(zip(header, line, strict=True))
    assert float(cells["test_perplexity"]) == trial["test_perplexity"]
    assert cells["reason"] == "mig: the data have no known factors (dataset sprites has)"
    first, last = lines_of(units_of(records), not_measured_of(records))
    assert "test_perplexity: entries" in first
    assert "nats" not in first.replace("nats:", "")  # names that end in their unit say it
    assert last == "not measured: mig: the data have no known factors (dataset sprites has) (1 trial)"


def test_a_metric_of_many_numbers_shows_those_that_it_names():
    units = {"examples": "", "metric_condition_median": ""}
    assert columns_of((Listed(("geometry",)),), units) == ["metric_condition_median"]
    assert columns_of((QUICK,), units) == list(units)
    assert columns_of((), units) == []  # a row's own measures are columns where its table names them


def test_names_that_are_taken_numbers_that_are_none_and_lists(monkeypatch):
    made = {
        "mse": Measured(2.0, "", 0.5),
        "own": Measured(1.0, "bits", float("nan")),
        "bad": Measured(float("nan"), "", None),
        "list": Measured([1.0], "", None),
    }
    monkeypatch.setattr(registry, "measure", lambda subject, names: ({"errors": made}, {}))
    monkeypatch.setattr(Listed, "subject", lambda *of: None)
    found = finished((QUICK,), {"0": {}}, train.Config(), DIGITS, {"mse"})
    assert found["numbers"] == {"errors_mse": 2.0, "errors_mse_standard_error": 0.5, "own": 1.0}
    assert found["units"] == {"errors_mse": "", "own": "bits"}
    assert found["not_measured"] == {"bad": "it is nan"}


def test_a_run_that_diverged_is_not_measured():
    out = {"history": {}, "epochs": 1, "best_epoch": 1, "bad_step": 3, "bad_terms": {"loss": np.nan}, "step": 4}
    out |= {"test": {"mse": np.nan}, "rows": {"0": {}}, "pictures": np.zeros(1)}
    assert group.result(out, 1.0, train.Config(), DIGITS, (QUICK,))["test"].keys() == {"mse"}


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (search, ["--metrics", "migs", "--lr", "1e-3", "--trials", "1"], "no metric is called 'migs'; nearest: mig"),
        (search, ["--metrics", "mig", "--metrics-limit", "-1", "--lr", "1e-3"], "--metrics-limit must be at least 0"),
        (experiments, ["digits", "--metrics", "kl", "--metrics-samples", "0"], "--metrics-samples must be at least 1"),
        (experiments, ["digits", "--metrics", "migs"], "no metric is called 'migs'; nearest: mig"),
        (
            search,
            ["--problem", "tests.search.fake_trials:problem", "--metrics", "mig", "--lr", "1e-3"],
            "--metrics: the problem tests.search.fake_trials:problem measures what it returns, and nothing more",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_line(main, words, message, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]


def test_a_problem_with_metrics_has_a_name_that_workers_load():
    name = named("experiments.search.training:problem", (QUICK,))
    problem = load_problem(name)
    assert problem.run_group.keywords == {"measures": (QUICK,)}
    assert named("a:b", ()) == "a:b"
    assert problem.config == training.problem.config
