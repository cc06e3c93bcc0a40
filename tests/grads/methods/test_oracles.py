"""The oracles agree with analytic Jacobians; the sketch is as good as its theory says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grads import UnsupportedMethodError, jacobian, jacobian_operator, randomized_svd
from grads.methods.low_rank import low_rank
from grads.testing.catalogue import problem

CASES = [
    problem(n) for n in ("tree", "sandwich", "scatter", "batched", "layer_norm", "recurrent", "convolution")
]


def agree(got, want, tolerance):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.max(np.abs(b))))


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_oracles(case):
    methods = {"finite_difference": 1e-7, "naive_loop": 1e-13, "complex_step": 1e-13}
    want = case.jacobian(*case.args)
    for method, tolerance in methods.items():
        agree(jacobian(case.fun, method=method)(*case.args), want, tolerance)


PIECEWISE = {
    "relu": jax.nn.relu,
    "abs": jnp.abs,
    "softplus": jax.nn.softplus,
    "max": lambda x: jnp.maximum(x, x[::-1] ** 2) + jnp.max(x),
    "where": lambda x: jnp.where(x > 0.3, jnp.sin(x), x**2),
    "logsumexp": lambda x: jax.nn.logsumexp(x) * jnp.ones(2),
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "norm": lambda x: x / jnp.linalg.norm(x),
}


@pytest.mark.parametrize("name", PIECEWISE)
def test_complex_step_of_piecewise_functions(name):
    x = jnp.asarray([0.5, -1.2, 0.1, 2.0])
    agree(jacobian(PIECEWISE[name], method="complex_step")(x), jax.jacfwd(PIECEWISE[name])(x), 1e-14)


def test_complex_step_refuses_by_name():
    with pytest.raises(UnsupportedMethodError, match="erf"):
        jacobian(jax.scipy.special.erf, method="complex_step")(jnp.ones(3))


def test_randomized_svd():
    case = problem("low_rank")
    op = jacobian_operator(lambda x: case.fun(x, *case.args[1:]), case.args[0])
    j = case.jacobian(*case.args)
    u, s, vt = randomized_svd(op, 2, jax.random.key(0), oversample=2)
    np.testing.assert_allclose((u * s[None]) @ vt, j, atol=1e-12)
    np.testing.assert_allclose(s, np.linalg.svd(j, compute_uv=False)[:2], rtol=1e-12)
    agree(jacobian(case.fun, method="randomized_svd")(*case.args), j, 1e-12)  # rank 32 is all of it
    full = problem("dense_decoder")
    got = jacobian(full.fun, method=low_rank(1, oversample=2))(*full.args)
    spectrum = np.linalg.svd(full.jacobian(*full.args), compute_uv=False)
    assert np.linalg.norm(got - full.jacobian(*full.args), 2) < 1.5 * spectrum[1]
    with pytest.raises(ValueError, match="between 1 and 10, got 11"):
        randomized_svd(op, 11, jax.random.key(0))
