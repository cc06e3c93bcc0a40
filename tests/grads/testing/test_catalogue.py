"""The catalogue's formulas agree with JAX, so that it can judge everything else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grads.testing.catalogue import catalogue, problem
from grads.testing.register import register_problem
from grads.testing.sparse import brusselator_jacobian, brusselator_pattern


@pytest.mark.parametrize("case", catalogue(), ids=lambda p: p.name)
def test_formula_agrees_with_jax(case):
    mode = jax.jacrev if "reverse_only" in case.tags else jax.jacfwd
    got = jax.jit(mode(case.fun, holomorphic="holomorphic" in case.tags))(*case.args)
    want = case.jacobian(*case.args)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    tolerance = 1e-6 if "mixed_dtype" in case.tags else 1e-13
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.shape == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.max(np.abs(b), initial=0)))


@pytest.mark.parametrize("case", catalogue("hessian"), ids=lambda p: p.name)
def test_second_derivatives(case):
    want = case.second(*case.args)
    np.testing.assert_allclose(jax.hessian(case.fun)(*case.args), want, atol=1e-12 * np.max(np.abs(want)))


def test_arguments_take_the_dtype_asked():
    assert problem("low_rank", jnp.float32).args[0].dtype == jnp.float32


@pytest.mark.parametrize("side", [3, 4, 5])
def test_brusselator_pattern_holds_all_nonzeros(side):
    x = np.random.default_rng(0).normal(size=2 * side**2)
    rows, columns = brusselator_pattern(side)
    given = np.zeros((len(x), len(x)), bool)
    given[rows, columns] = True
    np.testing.assert_array_equal(brusselator_jacobian(x) != 0, given)


def test_catalogue_filters_and_names():
    assert {p.name for p in catalogue("network", without=("vector",))} == {"recurrent", "convolution"}
    with pytest.raises(KeyError, match="brusselator"):
        problem("brusselatr")
    with pytest.raises(ValueError, match="tridiagonal"):
        register_problem("tridiagonal")(lambda rng, dtype: None)
