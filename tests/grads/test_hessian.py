"""Hessians of every order of modes against formulas and `jax.hessian`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grads import WrongPatternError, hessian, hessian_sparsity
from grads.hessian import MODES
from grads.testing.catalogue import catalogue, problem


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", catalogue("hessian"), ids=lambda p: p.name)
def test_formula(case, mode):
    (x,) = case.args
    want = case.second(x)
    kinds = {"plain": {}, "chunked": {"chunk_size": 3}, "coloured": {"sparsity": "auto"}}
    every = lambda x: {k: hessian(case.fun, mode=mode, **options)(x) for k, options in kinds.items()}
    for kind, got in jax.jit(every)(x).items():  # one compilation for the three
        np.testing.assert_allclose(got, want, atol=1e-12 * np.max(np.abs(want)), err_msg=kind)


@pytest.mark.parametrize("mode", MODES)
def test_trees_several_outputs_and_arguments_like_jax(mode):
    x = {"a": jnp.asarray([0.5, -1.0]), "b": jnp.asarray(2.0)}
    fun = lambda s, x, z: {"u": jnp.sin(x["a"] * x["b"] * s), "v": jnp.sum(z**3) * x["b"] ** 2}
    args = (1.5, x, jnp.ones((2, 1)))
    want, got = jax.jit(lambda *a: (jax.hessian(fun, (1, 2))(*a), hessian(fun, (1, 2), mode=mode)(*a)))(*args)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), got, want)


def test_aux_is_handed_through():
    got, aux = hessian(lambda x: (x**3, {"k": x + 1}), has_aux=True)(2.0)
    np.testing.assert_allclose((got, aux["k"]), (12.0, 3.0))


def test_sparse_hessian_costs_as_many_products_as_colours():
    case = problem("rosenbrock")
    x = jnp.linspace(-1, 1, 40)
    pattern = hessian_sparsity(case.fun, x)
    assert len(pattern.rows) == 3 * 40 - 2
    sizes = lambda f: max(v.aval.size for e in jax.make_jaxpr(f)(x).jaxpr.eqns for v in e.outvars)
    got = hessian(case.fun, sparsity=pattern, output="bcoo")
    assert sizes(got) < 40 * 40 / 2  # nothing dense
    np.testing.assert_allclose(got(x).todense(), case.second(x), atol=1e-9)


def test_a_wrong_pattern_is_caught():
    case = problem("rosenbrock")
    diagonal = np.eye(8)
    with pytest.raises(WrongPatternError, match="misses columns"):
        hessian(case.fun, sparsity=diagonal)(*case.args)
    assert jnp.isnan(jax.jit(hessian(case.fun, sparsity=diagonal))(*case.args)).any()
    scaled = lambda s: hessian(lambda x: s * case.fun(x), sparsity=diagonal)(*case.args)
    assert jnp.isnan(jax.jit(scaled)(2.0)).any()  # x is known here, the function's value is not
    with pytest.raises(WrongPatternError, match="misses columns"):
        jax.grad(lambda s: scaled(s).sum())(2.0)
    # smaller than the structural pattern and still right: x * 0 never reaches the value
    fun = lambda x: jnp.sum(x**4) + jnp.sum(jnp.asarray([0.0, 0.0]) * x[:2] * x[1:3])
    tridiagonal = np.abs(np.subtract.outer(range(3), range(3))) <= 1
    np.testing.assert_array_equal(hessian_sparsity(fun, jnp.ones(3)).dense(), tridiagonal)
    np.testing.assert_allclose(hessian(fun, sparsity=np.eye(3))(jnp.ones(3)), 12 * np.eye(3))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="fwd_over_rev"):
        hessian(jnp.sum, mode="fwd_rev")
    with pytest.raises(ValueError, match="bcoo"):
        hessian(jnp.sum, output="bcoo")
    with pytest.raises(TypeError, match="one output, got 3"):
        hessian(jnp.sin, sparsity="auto")(jnp.ones(3))
