"""Products agree with analytic Jacobians and with each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from grads import products
from grads.testing.catalogue import catalogue, problem

NAMES = ("number_to_vector", "sandwich", "tree", "empty_and_unused", "scatter", "recurrent", "convolution")
CASES = [problem(name) for name in NAMES]


def matrix(case):
    """The analytic Jacobian as (outputs, inputs), by the order of the leaves."""
    out = jax.eval_shape(case.fun, *case.args)
    blocks = jax.tree.structure(out).flatten_up_to(case.jacobian(*case.args))
    sizes = [y.size for y in jax.tree.leaves(out)]
    rows = [
        np.hstack([np.reshape(a, (m, -1 if m and np.size(a) else 0)) for a in jax.tree.leaves(block)])
        for m, block in zip(sizes, blocks, strict=True)
    ]
    return np.vstack(rows)


def random_like(tree, seed):
    flat, unravel = ravel_pytree(jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), tree))
    return unravel(jnp.asarray(np.random.default_rng(seed).normal(size=flat.shape), flat.dtype))


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_products_are_products_with_the_analytic_jacobian(case):
    fun, x, j = lambda x: case.fun(x, *case.args[1:]), case.args[0], matrix(case)
    v = random_like(x, 0)
    u = random_like(jax.eval_shape(fun, x), 1)
    (y, jv), (_, uj) = jax.jit(lambda v, u: (products.jvp(fun, x, v), products.vjp(fun, x, u)))(v, u)
    scale = max(1.0, np.max(np.abs(j), initial=0)) * j.shape[1] ** 0.5
    np.testing.assert_allclose(ravel_pytree(jv)[0], j @ ravel_pytree(v)[0], atol=1e-13 * scale, rtol=0)
    np.testing.assert_allclose(ravel_pytree(uj)[0], ravel_pytree(u)[0] @ j, atol=1e-13 * scale, rtol=0)
    np.testing.assert_allclose(ravel_pytree(y)[0], ravel_pytree(fun(x))[0], rtol=1e-13, atol=1e-15)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(3,), (3, 4), (5, 2, 3)]))
def test_adjoint_identity_of_random_networks(seed, widths):
    """u . (J v) = (u^T J) . v"""
    rng = np.random.default_rng(seed)
    kernels = [rng.normal(size=s) for s in zip((4, *widths), widths, strict=False)]

    def fun(x):
        for k in kernels:
            x = jnp.sin(x @ k)
        return {"y": x, "square": jnp.sum(x**2)}

    x, v = (jnp.asarray(rng.normal(size=4)) for _ in range(2))
    y, jv = products.jvp(fun, x, v)
    u = random_like(y, seed)
    _, uj = products.vjp(fun, x, u)
    np.testing.assert_allclose(ravel_pytree(u)[0] @ ravel_pytree(jv)[0], uj @ v, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("case", catalogue("hessian"), ids=lambda p: p.name)
def test_hessian_products(case):
    x, v = case.args[0], random_like(case.args[0], 2)
    want = case.second(x) @ v
    for product in (products.hvp, products.vhp):
        np.testing.assert_allclose(product(case.fun, x, v), want, rtol=1e-12)


def test_gauss_newton_is_j_transposed_h_j():
    case = problem("low_rank")
    fun, x, j = lambda x: case.fun(x, *case.args[1:]), case.args[0], case.jacobian(*case.args)
    loss = lambda y: jnp.sum(jnp.cosh(y))
    v = random_like(x, 3)
    want = j.T @ (np.cosh(np.asarray(fun(x))) * (j @ v))
    np.testing.assert_allclose(products.gauss_newton_product(fun, loss, x, v), want, rtol=1e-12)


@pytest.mark.parametrize("chunk", [None, 5])
@pytest.mark.parametrize("name", ["dense_decoder", "low_rank", "tree"])
def test_metric_by_jvps(name, chunk):
    case = problem(name)
    j = matrix(case)
    got = products.metric(
        lambda x: case.fun(x, *case.args[1:]), case.args[0], method="jvps", chunk_size=chunk
    )
    np.testing.assert_allclose(got, j.T @ j, atol=1e-12 * np.max(j.T @ j))


def test_gradients_sum_over_outputs():
    case = problem("tree")
    got, _unravel = ravel_pytree(products.gradients(case.fun)(*case.args))
    np.testing.assert_allclose(got, matrix(case).sum(0), rtol=1e-13)
    value, slope = products.value_and_gradient(jnp.sin)(0.3)
    np.testing.assert_allclose(
        (value, slope, products.gradient(jnp.sin)(0.3)), np.array([np.sin(0.3), *2 * [np.cos(0.3)]])
    )


def test_bad_input_is_named():
    x = {"a": jnp.ones(3)}
    with pytest.raises(ValueError, match=r"v\['a'\] has shape \(2,\), expected \(3,\)"):
        products.jvp(lambda x: x["a"], x, {"a": jnp.ones(2)})
    with pytest.raises(ValueError, match="u has the tree"):
        products.vjp(lambda x: x["a"], x, {"a": jnp.ones(3)})
    with pytest.raises(ValueError, match="jvps"):
        products.metric(jnp.sin, jnp.ones(2), method="jvp")
