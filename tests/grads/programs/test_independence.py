"""Proofs that examples are independent: what is proved is so, and what mixes examples is not proved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import grads
from grads.programs.graph import trace
from grads.programs.independence import NotIndependentError, batch_axes

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 3)))
EYE = 3 * jnp.eye(3)[None]
positive = lambda x: x @ x.mT + EYE
until = lambda x: lax.while_loop(lambda c: jnp.sum(c) < 100, lambda c: 2 * jnp.abs(c) + 1, x)

APART = {
    "fft": lambda x: jnp.abs(jnp.fft.fft(x, axis=1)),
    "rfft": lambda x: jnp.abs(jnp.fft.rfft(x)),
    "solve": lambda x: jnp.linalg.solve(x + EYE, x[..., :1]),
    "slogdet": lambda x: jnp.linalg.slogdet(x + EYE)[1],
    "cholesky": lambda x: jnp.linalg.cholesky(positive(x)),
    "eigh": lambda x: jnp.linalg.eigh(positive(x))[0],
    "svd": lambda x: jnp.linalg.svd(x, compute_uv=False),
    "top_k": lambda x: lax.top_k(x, 2)[0],
    "sorted rows": lambda x: jnp.take_along_axis(x, jnp.argsort(x, -1), -1),
    "set": lambda x: jnp.zeros((4, 3, 3)).at[:, jnp.array([1, 2])].set(x[:, :2]),
    "add": lambda x: x.at[:, jnp.array([1, 1])].add(x[:, :2]),
    "own row": jax.vmap(lambda a: a.at[jnp.argmax(a[:, 0])].set(a[0])),
    "own place": jax.vmap(lambda a: a[jnp.argmax(a[:, 0])]),
    "turns": lambda x: lax.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1],
    "own turns": jax.vmap(until),
}
MIXED = {
    "fft": lambda x: jnp.abs(jnp.fft.fft(x, axis=0)),
    "common turns": until,
    "order of examples": lambda x: x[jnp.argsort(x[:, 0, 0])],
    "set": lambda x: jnp.zeros((4, 3, 3)).at[jnp.array([1, 0, 3, 2])].set(x),
    "best examples": lambda x: lax.top_k(x.T, 2)[0].T,
    "solve": lambda x: jnp.linalg.solve(x[:3, 0] + EYE[0], x[:3, 0]),
}


def proof(fun):
    graph, _ = trace(lambda x: [fun(x)], [X])
    return batch_axes(graph, [0])[graph.outvars[0]]


@pytest.mark.parametrize("name", APART)
def test_what_is_proved_is_so(name):
    fun = APART[name]
    axis = proof(fun)
    before, after = (np.moveaxis(np.asarray(fun(x)), axis, 0) for x in (X, X.at[1].multiply(-0.7)))
    np.testing.assert_array_equal(before[[0, 2, 3]], after[[0, 2, 3]])
    assert not np.allclose(before[1], after[1])


@pytest.mark.parametrize("name", MIXED)
def test_what_mixes_examples_is_not_proved(name):
    with pytest.raises(NotIndependentError):
        proof(MIXED[name])


def test_a_custom_rule_that_mixes_examples_is_seen():
    @jax.custom_jvp
    def fun(x):
        return jnp.sin(x) * x[:, :1]

    fun.defjvp(lambda values, tangents: (fun(*values), tangents[0] + tangents[0].sum(0, keepdims=True)))
    with pytest.raises(NotIndependentError):
        proof(fun)


def test_a_fourier_transform_of_every_example():
    fun = lambda x: jnp.linalg.solve(x + EYE, jnp.abs(jnp.fft.fft(x, axis=1)))
    want = jax.jit(jax.vmap(jax.jacfwd(lambda x: fun(x[None])[0])))(X)
    np.testing.assert_allclose(jax.jit(grads.jacobian(fun, batch_axis=0))(X), want, atol=1e-12)
