"""Statistics against known values, closed forms and coverage."""

import numpy as np
import pytest

from experiments.reporting import statistics as st


def test_interquartile_mean_known_values():
    assert st.interquartile_mean(np.array([8.0, 1, 7, 2, 6, 3, 5, 4])) == 4.5
    assert st.interquartile_mean(np.array([1.0, 2, 3])) == 2.0  # a quarter of 3 rounds down to nothing
    assert st.interquartile_mean(np.array([0.0, 1, 2, 1e9])) == 1.5  # the outlier is cut
    scipy = pytest.importorskip("scipy.stats")
    x = np.random.default_rng(0).normal(size=(37, 3))
    np.testing.assert_allclose(st.interquartile_mean(x, axis=0), scipy.trim_mean(x, 0.25, axis=0), rtol=1e-12)


def test_t_interval_is_the_textbook_one():
    # two values +-1: mean 0, s = sqrt 2, s/sqrt n = 1, t_{1, .975} = tan(pi * 0.475)
    got = st.t_interval([-1.0, 1.0])
    np.testing.assert_allclose(got, (0.0, -np.tan(np.pi * 0.475), np.tan(np.pi * 0.475)), rtol=1e-9)
    assert st.t_interval([3.0]) == (3.0, -np.inf, np.inf)


def test_t_interval_covers_at_its_level():
    x = np.random.default_rng(1).normal(size=(2000, 5))
    inside = [(i := st.t_interval(row, 0.8)).low <= 0 <= i.high for row in x]
    assert abs(np.mean(inside) - 0.8) < 4 * np.sqrt(0.16 / 2000)


def test_paired_difference_removes_what_the_seeds_share():
    seeds = np.random.default_rng(2).normal(size=8) * 100
    gap = np.linspace(-0.1, 0.1, 8)
    paired = st.paired_difference(seeds + 1.0 + gap, seeds)
    np.testing.assert_allclose(paired, st.t_interval(1.0 + gap), rtol=1e-9)
    assert paired.low > 0
    with pytest.raises(ValueError, match="equal shapes"):
        st.paired_difference([1.0, 2.0], [1.0])


def test_bootstrap_is_stratified_by_task():
    # two constant tasks: resampling within a task leaves every statistic as it is
    scores = np.tile([[0.0, 100.0]], (6, 1))
    assert st.bootstrap_interval(scores, times=50) == (50.0, 50.0, 50.0)


def test_bootstrap_width_is_the_standard_error():
    x = np.random.default_rng(3).normal(size=400)
    got = st.bootstrap_interval(x, lambda s: s.mean(axis=(-2, -1)), level=0.95, times=4000)
    np.testing.assert_allclose(got.high - got.low, 2 * 1.96 * x.std() / 20, rtol=0.06)
    assert got == st.bootstrap_interval(x, lambda s: s.mean(axis=(-2, -1)), level=0.95, times=4000)


def test_probability_of_improvement_known_values():
    assert st.probability_of_improvement([3.0, 4.0], [1.0, 2.0]).estimate == 1.0
    assert st.probability_of_improvement([1.0, 2.0], [1.0, 2.0]).estimate == 0.5
    # x beats y in 3 of 4 pairs of task one and ties in all of task two
    both = st.probability_of_improvement([[1.0, 5.0], [3.0, 5.0]], [[2.0, 5.0], [0.0, 5.0]])
    assert both.estimate == pytest.approx((0.75 + 0.5) / 2)
    assert 0 <= both.low <= both.estimate <= both.high <= 1


def test_performance_profile_is_one_minus_the_distribution_function():
    got = st.performance_profile(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([-1.0, 0.0, 1.5, 3.0]))
    np.testing.assert_array_equal(got, [1.0, 0.75, 0.5, 0.0])


def test_pareto_front_is_the_undominated_set():
    points = np.array([[1.0, 4], [2, 2], [4, 1], [3, 3], [2, 2], [np.nan, 0]])
    np.testing.assert_array_equal(st.pareto_front(points), [True, True, True, False, True, False])


@pytest.mark.parametrize("bad", [[], [[]], [1.0, np.nan], [[[1.0]]]])
def test_bad_scores_are_named(bad):
    with pytest.raises(ValueError, match="scores must be"):
        st.t_interval(bad)
