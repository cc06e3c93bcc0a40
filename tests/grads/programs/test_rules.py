"""Custom derivative rules: what decides is the rule, not the function that it replaces."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import grads

RNG = np.random.default_rng(0)
W, NARROW, WIDE = (jnp.asarray(RNG.normal(size=s), jnp.float32) for s in ((6, 6), (6, 2), (2, 6)))
X = jnp.linspace(0.1, 1.0, 6, dtype=jnp.float32)
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


@jax.custom_vjp
def closing(x):
    return jnp.sin(x @ W)


closing.defvjp(lambda x: (jnp.sin(x @ W), x), lambda x, g: ((g * jnp.cos(x @ W)) @ W.T,))


@jax.custom_jvp
def looping(x):
    return jnp.sin(x)


@looping.defjvp
def _(values, tangents):
    step = lambda c: (c[0] + 1, c[1] * jnp.cos(values[0]))
    return jnp.sin(values[0]), lax.while_loop(lambda c: c[0] < 1, step, (0, tangents[0]))[1]


@jax.custom_jvp
def iterated(x):
    """The root of y = cos(y) + x / 9 by a loop; the rule is the implicit function theorem."""
    return lax.while_loop(lambda c: c[0] < 60, lambda c: (c[0] + 1, (c[1] + jnp.cos(c[1]) + x / 9) / 2), (0, x))[1]


@iterated.defjvp
def _(values, tangents):
    y = iterated(values[0])
    return y, tangents[0] / 9 / (1 + jnp.sin(y))


@jax.custom_vjp
def clipped(x):
    return x


clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -0.1, 0.1),))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def scaled(a, x):
    return a * jnp.sin(x)


@scaled.defjvp
def _(a, values, tangents):
    return a * jnp.sin(values[0]), a * jnp.cos(values[0]) * tangents[0]


@pytest.mark.parametrize("method", ["auto", "rev", "rev_chunked", "chain"])
def test_a_custom_vjp_that_closes_over_an_array(method):
    deep = lambda x: closing(jnp.tanh(closing(x)[:3] @ W[:3]))
    close(grads.jacobian(deep, method=method)(X), jax.jacrev(deep)(X))
    close(jax.jit(grads.jacobian(deep, method=method))(X), jax.jacrev(deep)(X))


def test_a_rule_with_a_loop_is_not_planned_in_reverse():
    wide = lambda x: looping(x)[:1]
    close(grads.jacobian(wide)(X), jax.jacfwd(wide)(X))
    with pytest.raises(grads.UnsupportedMethodError, match=r"rule of a custom_jvp cannot be transposed: use 'fwd'"):
        grads.jacobian(wide, method="rev")(X)
    inside = lambda x: lax.scan(lambda c, _: (looping(c), c), x, None, 2)[0][:1]
    close(grads.jacobian(inside)(X), jax.jacfwd(inside)(X))


def test_a_loop_under_a_rule_without_one_goes_in_reverse():
    fun = lambda x: jnp.sum(iterated(x), keepdims=True)
    want = jax.jacrev(fun)(X)
    for method in ("auto", "rev", "chain"):
        close(grads.jacobian(fun, method=method)(X), want)


def test_a_loop_off_the_way_of_the_derivative_stops_no_method():
    fun = lambda x: x * lax.while_loop(lambda c: c < 3, lambda c: c * 2, lax.stop_gradient(x).sum())
    close(grads.jacobian(fun, method="rev")(X), jax.jacrev(fun)(X))


def test_an_array_in_nondiff_argnums_under_jit():
    a = jnp.arange(6.0)
    for given in (lambda a, x: scaled(a, x), lambda a, x: scaled(jnp.sin(a) + lax.stop_gradient(x), x)):
        want = jax.jacfwd(given, 1)(a, X)
        close(jax.jit(grads.jacobian(given, 1))(a, X), want)
        close(grads.jacobian(given, 1)(a, X), want)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: jnp.sum(clipped(3 * x) * x) * jnp.ones(3),
        lambda x: clipped(jnp.tanh(x @ NARROW)) @ WIDE,
        lambda x: lax.scan(lambda c, _: (clipped(c) * 2, c), jnp.tanh(x @ NARROW), None, 2)[0] @ WIDE,
    ],
)
def test_a_rule_that_clips_is_not_cut(fun):
    want = jax.jacrev(fun)(X)
    close(grads.jacobian(fun)(X), want)
    close(grads.jacobian(fun, output="factored")(X).materialize(), want)
    for method in ("chain", "structured", grads.sparse(np.ones(want.shape)), "randomized_svd"):
        with pytest.raises(grads.UnsupportedMethodError, match=r"not linear|no forward derivative"):
            grads.jacobian(fun, method=method)(X)


def test_a_rule_that_clips_over_a_batch():
    batch = jnp.stack([X, X + 1, X + 2])
    fun = lambda x: clipped(jnp.tanh(x @ NARROW)) @ WIDE
    close(grads.jacobian(fun)(batch), jax.jacrev(fun)(batch))


@pytest.mark.parametrize("fun", [jax.nn.relu, jax.nn.softmax, jax.nn.silu, jax.nn.celu, jax.nn.logsumexp, jax.nn.relu6])
def test_the_rules_of_the_library_are_seen_to_be_linear(fun):
    deep = lambda x: jnp.outer(jnp.ones(6), fun(jnp.tanh(x @ NARROW)))
    close(grads.jacobian(deep, method="chain")(X), jax.jacfwd(deep)(X))
