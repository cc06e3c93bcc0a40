"""Detected patterns against those of another library, where it is installed and runs with this JAX."""

import jax.numpy as jnp
import numpy as np
import pytest

from grads import jacobian_sparsity
from grads.testing.catalogue import problem


@pytest.mark.parametrize("name", ["tridiagonal", "arrow", "elementwise", "brusselator", "softmax", "cumulative_sum"])
def test_patterns_like_asdex(name):
    asdex = pytest.importorskip("asdex", exc_type=ImportError)
    case = problem(name)
    theirs = np.asarray(asdex.jacobian_sparsity(case.fun, *case.args).todense()) != 0
    ours = jacobian_sparsity(case.fun, *case.args).dense()
    assert np.all(ours >= theirs)
    if name != "cumulative_sum":  # here every running sum is taken to depend on all that is summed
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["tridiagonal", "arrow", "elementwise", "brusselator", "scatter", "linear_recurrence"])
def test_patterns_hold_every_nonzero_of_the_formula(name):
    case = problem(name)
    pattern = jacobian_sparsity(case.fun, *case.args).dense()
    assert np.all(pattern[np.asarray(case.jacobian(*case.args)) != 0])
    if name in ("tridiagonal", "arrow", "elementwise"):
        assert pattern.sum() == {"tridiagonal": 25, "arrow": 13, "elementwise": 6}[name]


def test_positions_known_only_when_it_runs_are_all_positions():
    fun = lambda x: x[jnp.argsort(x)[:2]]
    assert jacobian_sparsity(fun, jnp.arange(4.0)).dense().all()
