"""The operator's values are those of the analytic Jacobian; estimates cover them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grads import jacobian_operator, metric
from grads.testing.catalogue import problem

NAMES = ("dense_autoencoder", "dense_decoder", "residual")


def pair(name, dtype=None):
    case = problem(name, dtype)
    return jacobian_operator(lambda x: case.fun(x, *case.args[1:]), case.args[0]), case.jacobian(*case.args)


def condition_of_low_rank(dtype, j):
    """Relative error of J = U diag(1 - t^2) V, t = tanh(a), a = V x, per epsilon: t is saturated here.

    Rounding of a by sqrt(n) |V| |x| epsilons and of t by t of them moves 1 - t^2 by 2 t times (1 - t^2) sqrt(n)
    |V| |x| + t, and by one more in the subtraction: 330 and 110 of the two slopes themselves, 159 of |J|.
    """
    x, u, v = (np.float64(a) for a in problem("low_rank", dtype).args)
    t = np.abs(np.tanh(v @ x))
    slope = 2 * t * ((1 - t**2) * (np.abs(v) @ np.abs(x)) * len(x) ** 0.5 + t) + 1
    return np.linalg.norm(np.abs(u) * slope @ np.abs(v)) / np.linalg.norm(j)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", [*NAMES, "low_rank"])
def test_exact_values(name, dtype):
    op, j = pair(name, dtype)
    tolerance = 1e-12 if dtype == jnp.float64 else 3e-6
    if name == "low_rank":
        tolerance = condition_of_low_rank(dtype, j) * float(jnp.finfo(dtype).eps)
    scale = np.linalg.norm(j)
    close = lambda got, want, s=scale: np.testing.assert_allclose(got, want, atol=tolerance * s, rtol=0)
    close(op.materialize(), j)
    close(op.gram(), j.T @ j, scale**2)
    case = problem(name, dtype)
    close(metric(lambda x: case.fun(x, *case.args[1:]), case.args[0]), j.T @ j, scale**2)
    close(op.frobenius().value, np.linalg.norm(j))
    close(op.frobenius(squared=True).value, np.sum(j**2), scale**2)
    close(op.row_norms().value, np.linalg.norm(j, axis=1))
    close(op.svdvals().value, np.linalg.svd(j, compute_uv=False))
    assert op.svdvals().exact
    if j.shape[0] == j.shape[1]:
        close(op.trace().value, np.trace(j))
        close(op.diagonal().value, np.diag(j))


@pytest.mark.parametrize("name", ["dense_decoder", "dense_encoder", "residual"])
def test_log_determinant(name):
    op, j = pair(name)
    g = j.T @ j if j.shape[0] >= j.shape[1] else j @ j.T
    np.testing.assert_allclose(op.slogdet_gram().value, np.linalg.slogdet(g)[1], rtol=1e-10)
    got = op.slogdet_gram(method="lanczos", key=jax.random.key(0), samples=64)
    assert abs(got.value - np.linalg.slogdet(g)[1]) < 5 * got.standard_error + 1e-9


def test_log_determinant_of_a_waist_is_minus_infinity():
    assert pair("low_rank")[0].slogdet_gram().value == -np.inf


def test_log_determinant_in_float32_survives_a_bad_condition():
    """By a Cholesky factor of J^T J this is nan from cond 1e4 on."""
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.normal(size=(k, 8)))[0] for k in (40, 8))
    j = (u * np.logspace(0, -5, 8)) @ v.T
    kernel = jnp.asarray(j, jnp.float32)
    got = jacobian_operator(lambda x: kernel @ x, jnp.ones(8, jnp.float32)).slogdet_gram()
    np.testing.assert_allclose(got.value, 2 * np.log(np.logspace(0, -5, 8)).sum(), atol=5e-2)


def test_products_and_composition():
    rng = np.random.default_rng(0)
    decoder, jd = pair("dense_decoder")
    encoder, je = pair("dense_encoder")
    close = lambda got, want: np.testing.assert_allclose(got, want, atol=1e-13)
    v, u = rng.normal(size=(3, 4)), rng.normal(size=(2, 12))
    close(decoder @ v[:, 0], jd @ v[:, 0])
    close(decoder @ v, jd @ v)
    close(decoder.rmv(jnp.asarray(u[0])), u[0] @ jd)
    close(decoder.rmm(jnp.asarray(u)), u @ jd)
    close(decoder.T.mv(jnp.asarray(u[0])), u[0] @ jd)
    both = decoder @ encoder
    close(both.materialize(), jd @ je)
    close(both.mv(jnp.asarray(u[0])), jd @ je @ u[0])
    close(both.T.materialize(), (jd @ je).T)
    close(both.rmv(jnp.asarray(u[1])), u[1] @ jd @ je)
    close(both.T.mv(jnp.asarray(u[0])), u[0] @ jd @ je)
    assert both.rank == 3
    assert len(both.factored.factors) > 1


@pytest.mark.parametrize("method", ["hutchinson", "hutchpp", "xtrace"])
def test_estimates_cover_the_exact_values(method):
    op, j = pair("dense_autoencoder")
    how = {"method": method, "key": jax.random.key(1), "samples": 12}
    for got, want in ((op.trace(**how), np.trace(j)), (op.frobenius(squared=True, **how), np.sum(j**2))):
        assert not got.exact
        assert got.method == method
        assert abs(got.value - want) < 5 * got.standard_error + 1e-9
    squared = op.frobenius(squared=True, **how)
    root = op.frobenius(**how)
    np.testing.assert_allclose(root.standard_error * 2 * root.value, squared.standard_error)


def test_estimated_diagonal_and_row_norms():
    op, j = pair("residual")
    how = {"method": "hutchinson", "key": jax.random.key(1), "samples": 400}
    for got, want in ((op.diagonal(**how), np.diag(j)), (op.row_norms(**how), np.linalg.norm(j, axis=1))):
        assert np.all(abs(got.value - want) < 5 * got.standard_error)
        assert np.all(got.standard_error < 0.2 * np.max(np.abs(want)))


def test_penalty_gradient_and_vmap():
    case = problem("dense_autoencoder")
    x, weights = case.args
    batch = jnp.stack([x, 2 * x])
    one = lambda x, w: jacobian_operator(lambda x: case.fun(x, w), x).frobenius(squared=True).value
    ours = lambda w: jax.vmap(lambda x: one(x, w))(batch).sum()
    usual = lambda w: jnp.sum(jax.vmap(lambda x: jax.jacfwd(case.fun)(x, w))(batch) ** 2)
    got, want = jax.jit(jax.grad(ours))(weights), jax.jit(jax.grad(usual))(weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), got, want)


def test_bad_input_is_named():
    op, _ = pair("dense_decoder")
    with pytest.raises(ValueError, match=r"square Jacobian, got shape \(12, 3\)"):
        op.trace()
    with pytest.raises(ValueError, match="key"):
        op.frobenius(method="xtrace")
    with pytest.raises(ValueError, match="hutchinsen"):
        op.frobenius(method="hutchinsen")
    with pytest.raises(ValueError, match=r"v has shape \(2,\), expected \(3,\)"):
        op.mv(jnp.ones(2))
    with pytest.raises(ValueError, match="shapes"):
        _ = op @ op
    with pytest.raises(TypeError, match="int"):
        jacobian_operator(jnp.sin, jnp.arange(3))
