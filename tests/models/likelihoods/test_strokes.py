"""Pen strokes: the density against scipy's, its integral, draws of it, and what follows the end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

from models import ConfigError, Sizes, likelihoods

SHAPE, K = (4, 3), 2


def strokes(n=1, seed=0):
    """The density of n examples from random numbers of a decoder, float64."""
    likelihood = likelihoods.StrokesLikelihood(components=K, width=0.7)
    out = jax.random.normal(jax.random.key(seed), (1, *SHAPE, likelihood.channels()))
    return likelihood.build(Sizes(SHAPE), nnx.Rngs(0))(jnp.repeat(out, n, axis=0), None)


def by_scipy(p, t, x):
    """log p of one step of the first example."""
    weight = np.exp(np.asarray(jax.nn.log_softmax(p.logits[0, t])))
    total = 0.0
    for i in range(K):
        std, r = np.exp(np.asarray(p.log_scale[0, t, i])), float(p.correlation[0, t, i])
        cov = [[std[0] ** 2, r * std[0] * std[1]], [r * std[0] * std[1], std[1] ** 2]]
        total += weight[i] * scipy.stats.multivariate_normal(np.asarray(p.mean_of[0, t, i]), cov).pdf(x[:2])
    return np.log(total) + float(jax.nn.log_softmax(p.pen[0, t])[int(x[2])])


@pytest.mark.parametrize("end", [1, 3, None])
def test_the_density_is_scipys_up_to_the_end(end):
    p, rng = strokes(), np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(4, 2)), rng.integers(2, size=(4, 1))], axis=1)
    if end is not None:
        x[end, 2] = 2
    steps = range(4 if end is None else end + 1)
    log_prob = lambda x: float(p.log_prob(jnp.asarray(x)[None])[0])
    expected = sum(by_scipy(p, t, x[t]) for t in steps)
    np.testing.assert_allclose(log_prob(x), expected, rtol=1e-9)
    other = x.copy()
    other[len(steps) :] = 7.0
    np.testing.assert_allclose(log_prob(other), expected, rtol=1e-9)  # padding is not looked at
    mask = np.ones((1, 4, 3), bool)
    mask[0, 0, 0] = False
    hidden = float(p.log_prob(jnp.asarray(x)[None], jnp.asarray(mask))[0])
    assert hidden == pytest.approx(
        expected - by_scipy(p, 0, x[0]) + float(jax.nn.log_softmax(p.pen[0, 0])[int(x[0, 2])])
    )


def test_draws_have_the_moments_of_the_density_and_stop_at_an_end():
    n = 20_000
    p = strokes(n)
    x = np.asarray(jax.jit(lambda k: p.sample(k))(jax.random.key(1)))
    assert x.shape == (n, *SHAPE)
    weight, mean = np.asarray(jax.nn.softmax(p.logits[0, 0])), np.asarray(p.mean_of[0, 0])
    scale, r = np.exp(np.asarray(p.log_scale[0, 0])), np.asarray(p.correlation[0, 0])
    first = weight @ mean
    second = sum(weight[i] * (np.prod(scale[i]) * r[i] + np.prod(mean[i])) for i in range(K))
    np.testing.assert_allclose(np.asarray(p.mean)[0, 0, :2], first, rtol=1e-12)
    moves = x[:, 0, :2]
    spread = lambda values: 5 * values.std(0) / np.sqrt(n)
    assert (np.abs(moves.mean(0) - first) < spread(moves)).all()
    assert abs(moves.prod(1).mean() - second) < spread(moves.prod(1))
    pen = np.asarray(jax.nn.softmax(p.pen[0, 0]))
    assert np.abs(np.bincount(x[:, 0, 2].astype(int), minlength=3) / n - pen).max() < 5 * 0.5 / np.sqrt(n)
    ended = x[:, 0, 2] == 2
    assert (x[ended, 1:, :2] == 0).all()
    assert (x[ended, 1:, 2] == 2).all()


def test_values_that_are_no_steps_are_refused():
    with pytest.raises(ConfigError, match="dx, dy and the pen of every step"):
        likelihoods.StrokesLikelihood().build(Sizes((4, 2)), nnx.Rngs(0))
