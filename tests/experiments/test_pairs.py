"""What a table says beyond means: which interval is which, pairs by seed, old records, profiles of rows."""

import math

import numpy as np
import pytest

from experiments.reporting import pairs, plots, report

from .test_tables import facts, record_of

SEEDS = np.array([0.0, 5.0, -3.0, 9.0])
ROWS = {
    "base": facts([2.0], exact=True),
    "a": facts([*(10 + SEEDS), 100.0]),
    "b": facts([*(9.9 + SEEDS), 99.9], bound="a"),
    "c": facts([math.inf, 1.0, 1.0, 3.0, 1.0], bound="base"),
}


def column(rows, record):
    """{row: cell} of the column whose header has a word."""
    table = report.table_of(record)
    at = next(i for i, head in enumerate(table[0]) if rows in head)
    return {line[0]: line[at] for line in table[1:]}


def test_the_mean_and_the_interquartile_mean_stand_side_by_side():
    record = record_of(ROWS)
    assert column("mean [95% t]", record)["a"].startswith("30.2 [")
    assert column("interquartile mean [95% bootstrap]", record)["a"].startswith("14.67 [")  # 10, 15, 19
    assert column("interquartile", record)["base"] == ""
    assert report.table_of(record_of({"r": facts([1.0, 2.0])}))[0] == ["row", "ours: mse"]


def test_differences_are_paired_and_improvement_is_not():
    record = record_of(ROWS)
    assert column("paired", record) == {"base": "", "a": "", "b": "-0.1 [-0.1, -0.1]", "c": "-0.5 [-1, 0.5]"}
    wins = [x < y for x in record["rows"]["b"]["metrics"]["mse"] for y in record["rows"]["a"]["metrics"]["mse"]]
    assert column("P(below", record)["b"].startswith(f"{np.mean(wins):.2f} [")
    assert column("P(below", record)["c"].startswith("0.75 [")  # three of the four seeds that stayed finite
    found = pairs.rival(record, "c")
    assert found.seeds == 4
    assert found.improvement.low <= 0.75 <= found.improvement.high


def test_two_seeds_and_numbers_as_bounds_are_not_compared():
    rows = {"a": facts([1.0, 2.0]), "b": facts([1.0, 2.0], bound="a"), "n": facts([1.0] * 5, bound=3.0)}
    assert pairs.rival(record_of(rows), "n") is None
    assert all("bootstrap" not in head or "interquartile" in head for head in report.table_of(record_of(rows))[0])


def test_profiles_are_shares_of_runs(tmp_path):
    taus = np.array([0.5, 1.0, 2.0, 3.0])
    share, low, high = plots.profile_band([1.0, 2.0, math.inf, 1.0], taus)
    np.testing.assert_array_equal(share, [0, 0.5, 0.75, 0.75])
    assert np.all((low <= share) & (share <= high))
    assert high[1] > low[1]
    record = record_of(ROWS, title="T")
    assert plots.DRAW["profile"](tmp_path / "p.png", record, {})
    assert (tmp_path / "p.png").stat().st_size > 5_000
    assert not plots.DRAW["profile"](
        tmp_path / "q.png", record_of({"base": ROWS["base"], "a": ROWS["a"]}, title=""), {}
    )


@pytest.mark.parametrize("kept", [3, 5])
def test_the_footer_says_which_interval_decides(kept):
    env = {"devices": ["0: cpu"], "backend": "cpu", "packages": {"jax": "1"}, "git": None}
    rest = {"profile": "cpu", "programs": 1, "minutes": 1.0, "cores": 2, "environment": env, "data": {}}
    text = report.footer(record_of(ROWS, seeds=list(range(kept)), **rest))
    assert f"mean and 95% t interval over {kept} seeds, which decides the verdict; percentile bootstrap" in text
