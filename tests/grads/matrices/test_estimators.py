"""Estimators: unbiased, of the stated variance, with an honest standard error."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from grads.matrices import estimators

N, REPEATS = 12, 2000
TRACES = {
    "hutchinson-gaussian": functools.partial(estimators.hutchinson, samples=8, distribution="gaussian"),
    "hutchinson-rademacher": functools.partial(estimators.hutchinson, samples=8, distribution="rademacher"),
    "hutchinson-sphere": functools.partial(estimators.hutchinson, samples=8, distribution="sphere"),
    "hutchpp": functools.partial(estimators.hutchpp, samples=12),
    "xtrace": functools.partial(estimators.xtrace, samples=12),
}


def matrix(symmetric, decay=1.0):
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(N, N)))
    a = (q * np.arange(1, N + 1.0) ** -decay) @ q.T
    return jnp.asarray(a if symmetric else a + 0.1 * rng.normal(size=(N, N)))


def repeat(estimator, a):
    keys = jax.random.split(jax.random.key(1), REPEATS)
    return jax.jit(jax.vmap(lambda key: estimator(lambda v: a @ v, N, key)))(keys)


@pytest.mark.parametrize("name", TRACES)
def test_trace_is_unbiased_with_an_honest_standard_error(name):
    a = matrix(symmetric=False)
    got = repeat(TRACES[name], a)
    spread = np.std(got.value)
    assert abs(np.mean(got.value) - jnp.trace(a)) < 4.5 * spread / REPEATS**0.5  # biased by 8% of a std: red
    stated = np.mean(got.standard_error**2) ** 0.5
    assert 0.9 * spread < stated < (1.6 if name == "xtrace" else 1.1) * spread
    # Student's share within two standard errors: hutchpp's and xtrace's errors rest on 4 and 6 samples
    nominal = scipy.stats.t.cdf(2, {"hutchpp": 3, "xtrace": 5}.get(name, 7)) * 2 - 1
    covered = np.mean(abs(got.value - jnp.trace(a)) < 2 * got.standard_error)
    assert nominal - 0.04 < covered < (0.99 if name == "xtrace" else nominal + 0.04)


@pytest.mark.parametrize("spectrum", ["flat", "falling", "steep", "step"])
def test_xtrace_error_is_that_of_pairs_of_probes(spectrum):
    """Stated as if two probes at a time made the error: never far too large, and too small only where more
    act together, in a flat spectrum that most probes must share.
    """
    i = np.arange(1.0, N + 1)
    values = {"flat": 1 + 0.2 * np.sin(7 * i), "falling": 1 / i, "steep": 0.6**i, "step": 1e-3 + (i <= 4)}[spectrum]
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(N, N)))
    a = jnp.asarray((q * values) @ q.T)
    for samples in (6, 14):
        got = repeat(functools.partial(estimators.xtrace, samples=samples), a)
        spread = np.std(got.value)
        assert abs(np.mean(got.value) - values.sum()) < 4.5 * spread / REPEATS**0.5
        m = samples // 2
        stated = np.mean(got.standard_error**2) ** 0.5 / spread
        assert (0.8 if spectrum == "flat" else 0.93) < stated < 1.05 * (2 * (m - 1) / (m - 2)) ** 0.5


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher", "sphere"])
def test_probe_variance_rule(distribution):
    a = matrix(True)
    v = estimators.probes(jax.random.key(2), 40_000, N, distribution, a.dtype)
    samples = jnp.sum(v * (v @ a), 1)
    np.testing.assert_allclose(jnp.var(samples), estimators.probe_variance(a, distribution), rtol=0.05)
    np.testing.assert_allclose(v.T @ v / len(v), np.eye(N), atol=0.05)


def test_xtrace_beats_hutchpp_beats_hutchinson_on_a_decaying_spectrum():
    a = matrix(True, decay=3.0)
    spread = {
        name: np.std(repeat(functools.partial(method, samples=12), a).value)
        for name, method in [(m, getattr(estimators, m)) for m in ("hutchinson", "hutchpp", "xtrace")]
    }
    assert spread["xtrace"] < 0.5 * spread["hutchpp"]
    assert spread["hutchpp"] < 0.2 * spread["hutchinson"]


@pytest.mark.parametrize("name", ["hutchpp", "xtrace"])
def test_low_rank_is_exact(name):
    u = jnp.asarray(np.random.default_rng(3).normal(size=(N, 2)))
    got = getattr(estimators, name)(lambda v: u @ (u.T @ v), N, jax.random.key(0), samples=12)
    np.testing.assert_allclose(got.value, jnp.sum(u**2), rtol=1e-9)
    assert got.standard_error < 1e-6


def test_diagonal():
    a = matrix(False)
    got = repeat(estimators.hutchinson_diagonal, a)
    spread = np.std(got.value, 0)
    np.testing.assert_array_less(abs(np.mean(got.value, 0) - jnp.diagonal(a)), 5 * spread / REPEATS**0.5)
    np.testing.assert_allclose(np.mean(got.standard_error**2, 0) ** 0.5, spread, rtol=0.1)


def test_log_determinant():
    a = matrix(True)
    got = repeat(functools.partial(estimators.lanczos_logdet, samples=4, steps=N), a)
    want, spread = jnp.linalg.slogdet(a)[1], np.std(got.value)
    assert abs(np.mean(got.value) - want) < 4.5 * spread / REPEATS**0.5
    assert 0.9 * spread < np.mean(got.standard_error**2) ** 0.5 < 1.1 * spread


def test_log_determinant_stops_at_an_invariant_subspace():
    got = estimators.lanczos_logdet(lambda v: 3 * v, N, jax.random.key(0), samples=2, steps=6)
    np.testing.assert_allclose(got.value, N * np.log(3), rtol=1e-12)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"'normal'.*gaussian"):
        estimators.hutchinson(lambda v: v, N, jax.random.key(0), distribution="normal")
    with pytest.raises(ValueError, match="hutchpp needs at least 6 products, got 5"):
        estimators.hutchpp(lambda v: v, N, jax.random.key(0), samples=5)
    with pytest.raises(ValueError, match="xtrace needs at least 6 products, got 5"):
        estimators.xtrace(lambda v: v, N, jax.random.key(0), samples=5)


def test_one_sample_states_no_error():
    got = estimators.hutchinson(lambda v: v, N, jax.random.key(0), samples=1)
    assert jnp.isnan(got.standard_error)
    assert not got.exact
    assert estimators.exactly(jnp.ones(2)).exact


def test_like_matfree_with_the_same_probes():
    """matfree (a test extra) draws its probes on the sphere from a key as we do: the estimates must agree."""
    theirs = pytest.importorskip("matfree.stochtrace")
    n, key = 30, jax.random.key(3)
    a = jnp.asarray(np.random.default_rng(2).normal(size=(n, n)) / np.arange(1, n + 1))
    matvec = lambda v: a @ v
    sampler = theirs.sampler_sphere(jnp.zeros(n), num=6)
    plain = theirs.estimator_monte_carlo(theirs.monte_carlo_trace(), sampler)(matvec, key)
    got = estimators.hutchinson(matvec, n, key, 6, "sphere")
    np.testing.assert_allclose(got.value, plain, rtol=1e-12)
    with jax.numpy_rank_promotion("allow"):
        left_out = theirs.estimator_leave_one_out(theirs.leave_one_out_xtrace(), sampler)(matvec, key)
    np.testing.assert_allclose(estimators.xtrace(matvec, n, key, 12).value, left_out, rtol=1e-9)
