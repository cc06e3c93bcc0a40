"""Samplers and schedules: what they propose, and that nothing but seed, index and finished results matters."""

import dataclasses
import itertools

import numpy as np
import pytest

from experiments.search.proposals.choice import make_sampler
from experiments.search.proposals.schedule import SweepPlan, budgets_of, schedule
from experiments.search.space.domains import SpaceError
from experiments.search.space.space import parse_space
from tests.search.fake_trials import FakeConfig, metrics

SPACE = parse_space(FakeConfig(), {"lr": "1e-4:1e-2:log", "objective.beta": "0.5:8", "net.latent": "2,8,32"})
MANY = ["random", "sobol", "tpe", "cmaes", "nsgaii", "optuna:RandomSampler"]


def drive(plan, space=SPACE, score=None):
    """Run a schedule against the closed-form metrics; return its generations."""
    score = score or (lambda t: plan.score(metrics(space.configure(t.values, t.seed, t.budget))))
    sampler = make_sampler(plan.sampler, space, plan.sweep_seed, len(plan.objectives), plan.generation or 8)
    steps, generations = schedule(plan, sampler), []
    scores = None
    while True:
        try:
            trials = steps.send(scores)
        except StopIteration:
            return generations
        generations.append(trials)
        scores = [score(t) for t in trials]


def make(name, space=SPACE, seed=0):
    if name == "cmaes":
        pytest.importorskip("cmaes")
    if name not in ("random", "sobol", "grid"):
        pytest.importorskip("optuna")
    return make_sampler(name, space, seed)


@pytest.mark.parametrize("name", ["random", "sobol"])
def test_points_depend_on_seed_and_index_alone(name):
    whole = make(name).propose(0, 16)
    assert make(name).propose(5, 3) == whole[5:8]
    assert make(name, seed=1).propose(0, 16) != whole
    assert len({str(p) for p in whole}) == 16


def test_sobol_is_balanced_in_every_dimension():
    lr = np.log10([p["lr"] for p in make("sobol").propose(0, 64)])
    np.testing.assert_array_equal(np.histogram(lr, bins=16, range=(-4, -2))[0], 4)


def test_grid_is_the_product_without_repeats_of_absent_fields():
    texts = {"net.latent": "2,8", "lr": "1e-4:1e-2:log:3"}
    grid = make("grid", parse_space(FakeConfig(), texts)).propose(0, 100)
    wanted = itertools.product([1e-4, 1e-3, 1e-2], [2, 8])  # the part's field comes after the plain one
    assert [(p["lr"], p["net.latent"]) for p in grid] == list(wanted)
    parts = parse_space(FakeConfig(), {"objective": "smooth,rough", "objective.beta": "1,2,3"})
    assert len(make("grid", parts).propose(0, 100)) == 4  # three betas, and rough which has none


@pytest.mark.parametrize("name", MANY)
def test_a_longer_sweep_begins_with_the_shorter_one(name):
    make(name)
    plans = [SweepPlan(n, sampler=name, generation=4, sweep_seed=3) for n in (6, 12)]
    short, long = ([t for g in drive(p) for t in g] for p in plans)
    assert [t.values for t in long[:6]] == [t.values for t in short]
    assert len(long) == 12


@pytest.mark.parametrize("name", ["tpe", "nsgaii"])
def test_adaptive_proposals_wait_for_the_scores_of_earlier_generations(name):
    make(name)
    plan = SweepPlan(24, sampler=name, generation=12)
    calm, other = drive(plan), drive(plan, score=lambda t: (t.values["lr"],))
    assert calm[0] == other[0]
    assert [t.values for t in calm[0]] == [t.values for t in other[0]]
    assert [t.values for t in calm[1]] != [t.values for t in other[1]]


def test_tpe_finds_the_bowl_better_than_chance():
    make("tpe")
    best = {}
    for name in ("tpe", "random"):
        runs = [[t for g in drive(SweepPlan(48, sampler=name, sweep_seed=s)) for t in g] for s in range(3)]
        best[name] = np.mean([sorted(metrics(SPACE.configure(t.values))["loss"] for t in r)[8] for r in runs])
    assert best["tpe"] < best["random"]


def test_failed_trials_are_told_as_the_worst_and_do_not_stop_tpe():
    make("tpe")
    plan = SweepPlan(32, sampler="tpe", generation=8)
    fail = lambda t: None if t.values["lr"] > 1e-3 else plan.score(metrics(SPACE.configure(t.values)))
    generations = drive(plan, score=fail)
    share = [np.mean([t.values["lr"] > 1e-3 for t in g]) for g in generations]
    assert np.mean(share[2:]) < 0.4  # half of a log-uniform lr is above 1e-3
    assert len(drive(plan, score=lambda t: None)) == 4


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("name", ["tpe", "cmaes", "gp", "nsgaii", "nsgaiii", "qmc", "optuna:BruteForceSampler"])
def test_every_sampler_on_offer_runs_or_says_at_once_why_not(name, objectives):
    pytest.importorskip("optuna")
    try:
        make_sampler(name, SPACE, 0, objectives, 4)
    except SpaceError as error:
        refused = {
            "cmaes": "multi-objective",
            "gp": "pip install torch",
            "optuna:BruteForceSampler": "step must be given",
        }
        assert refused[name] in str(error)  # noqa: PT017 - what may be refused, and why
        return
    names = ("loss", "rate")[:objectives]
    runs = [drive(SweepPlan(20, sampler=name, generation=4, minimize=names)) for _ in range(2)]
    points = [[t.values for g in run for t in g] for run in runs]
    assert points[0] == points[1]
    assert len({str(p) for p in points[0]}) > 12


def test_unknown_samplers_of_optuna_are_named():
    pytest.importorskip("optuna")
    with pytest.raises(SpaceError, match=r"no sampler 'NoSampler'; it has .*TPESampler"):
        make_sampler("optuna:NoSampler", SPACE, 0)


def test_without_optuna_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(SpaceError, match=r"pip install -e '.\[search\]'"):
        make_sampler("tpe", SPACE, 0)


HALVING = dict(halving="sha", budget_field="epochs", budgets=(1, 3, 9), eta=3)
by_index = lambda t: (float(t.point),)


def test_successive_halving_keeps_the_best_of_each_rung():
    rungs = drive(SweepPlan(9, **HALVING), score=by_index)
    assert [[t.point for t in r] for r in rungs] == [list(range(9)), [0, 1, 2], [0]]
    assert [r[0].budget["epochs"] for r in rungs] == [1, 3, 9]
    failed = drive(SweepPlan(9, **HALVING), score=lambda t: None if t.point < 8 else (0.0,))
    assert [[t.point for t in r] for r in failed] == [list(range(9)), [8], [8]]


def test_halving_averages_seeds_and_brackets_follow_each_other():
    rungs = drive(
        SweepPlan(6, **{**HALVING, "budgets": (1, 9)}, seeds=2, generation=3), score=lambda t: (-t.point + t.seed,)
    )
    assert [sorted({t.point for t in r}) for r in rungs] == [[0, 1, 2], [2], [3, 4, 5], [5]]
    assert [len(r) for r in rungs] == [6, 2, 6, 2]


def test_asha_promotes_only_the_top_third_of_what_finished():
    plan = SweepPlan(18, **{**HALVING, "halving": "asha"}, generation=6)
    generations, seen, best = drive(plan, score=by_index), [[], [], []], 0
    for trials in generations:
        for t in trials:
            if t.rung:
                top = sorted(seen[t.rung - 1])[: len(seen[t.rung - 1]) // 3]
                assert t.point in top
            best = max(best, t.rung)
        for t in trials:
            seen[t.rung].append(t.point)
    assert best == 2
    assert sorted(seen[0]) == list(range(18))
    assert all(len(rung) == len(set(rung)) for rung in seen)  # nothing is promoted twice


def test_every_seed_and_fold_of_a_point_is_a_trial_with_its_own_key():
    (trials,) = drive(SweepPlan(3, seeds=2, folds=4))
    assert len({t.key for t in trials}) == 24
    assert {(t.seed, t.fold) for t in trials if t.point == 1} == set(itertools.product(range(2), range(4)))


@pytest.mark.parametrize(
    ("low", "high", "eta", "wanted"),
    [
        (1, 27, 3, (1, 3, 9, 27)),
        (1, 26, 3, (1, 3, 9)),
        (2, 15, 2, (2, 4, 8)),
        (5, 15, 3, (5, 15)),
        (1, 81, 4, (1, 4, 16, 64)),
    ],
)
def test_budgets_are_those_of_the_paper(low, high, eta, wanted):
    """Li et al. 2020, algorithm 1: r eta^i for i = 0, ..., floor(log_eta(R / r))."""
    assert budgets_of(low, high, eta) == wanted
    last = int(np.floor(np.log(high / low) / np.log(eta) + 1e-9))
    assert wanted == tuple(low * eta**i for i in range(last + 1))


@pytest.mark.parametrize(("n", "eta", "rungs"), [(27, 3, 4), (81, 3, 4), (20, 2, 4), (100, 4, 3), (26, 5, 3)])
def test_rungs_hold_as_many_points_as_in_the_paper(n, eta, rungs):
    """Li et al. 2020, algorithm 1: rung i trains n_i = floor(n / eta^i) points, and the last one no fewer than one."""
    plan = SweepPlan(n, halving="sha", budget_field="epochs", budgets=tuple(eta**i for i in range(rungs)), eta=eta)
    assert [len(trials) for trials in drive(plan, score=by_index)] == [n // eta**i for i in range(rungs)]
    with pytest.raises(SpaceError, match=f"that takes {eta ** (rungs - 1)}"):
        dataclasses.replace(plan, trials=eta ** (rungs - 1) - 1)


def test_a_short_last_bracket_ends_with_its_last_point():
    plan = SweepPlan(11, **HALVING, generation=9)
    assert [[t.point for t in trials] for trials in drive(plan, score=by_index)[3:]] == [[9, 10]]


def test_maximised_metrics_change_sign_and_nothing_that_is_not_finite_scores():
    plan = SweepPlan(1, minimize=("rate",), maximize=("accuracy",))
    assert plan.score({"rate": 2.0, "accuracy": 3.0}) == (2.0, -3.0)
    assert plan.score({"rate": np.inf, "accuracy": 3.0}) is None
