"""Pen strokes: the density against scipy's, draws of it, what follows the end; moves that see those before them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

from models import Autoencoder, Batch, ConfigError, Model, Recurrent, Sizes, Transformer, likelihoods, per_example
from training.trained.heat import heat

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


IN_TURN = {
    "lstm": Recurrent(cell="lstm", width=5, embedding=3, autoregressive=True),
    "transformer": Transformer(width=4, heads=2, layers=1),
}
TURNS = (3, 3)


@functools.cache
def written(name):
    """All that needs a model whose moves see those before them, in one program."""
    cfg = Model(encoder=IN_TURN[name], latent=2, likelihood=likelihoods.StrokesLikelihood(K))
    graph, params, rest = nnx.split(Autoencoder(cfg, TURNS, rngs=nnx.Rngs(2)), nnx.Param, ...)
    params = jax.tree.map(lambda a: 2 * a + 0.1, params)
    n = 5_000

    def of(params):
        model = nnx.merge(graph, params, rest, copy=True)
        z, key = jnp.broadcast_to(jnp.asarray([0.7, -1.2]), (n, 2)), jax.random.key(3)
        x = model.decode(z).sample(key)
        score = jax.grad(lambda z: model.decode(z).log_prob(x).sum())(z)
        some, few = x[:50], model.decode(z[:50])
        seen = few.observed(some)
        garbage = jnp.where(seen, some, 9.0)
        answers = [
            (model.encode(v).mean, few.log_prob(v), per_example(model, Batch(v), key)) for v in (some, garbage)
        ]
        net, state, before, each = model.decoder, model.decoder.start(z[:50]), jnp.zeros((50, 3)), 0
        for t in range(3):
            state, numbers = net.step(state, before, t)
            p, before = model.likelihood_module(net.by_value(numbers)[:, None], None), some[:, t]
            each += jnp.where(seen[:, t, 2], p.log_prob(before[:, None]), 0)
        cold = few.sample(key, 1e-20)
        return {"x": x, "score": score, "answers": answers, "each": each, "cold": cold, "mean": few.mean, "seen": seen}

    return jax.tree.map(np.asarray, jax.jit(of)(params))


@pytest.mark.parametrize("name", IN_TURN)
def test_moves_in_turn_are_drawn_from_their_density(name):
    """E[d log p(x|z) / dz] of draws is zero, and p is the product of what each step says of those before it."""
    found = written(name)
    x, score = found["x"], found["score"]
    assert np.abs(score).min(1).max() > 0.01
    assert (np.abs(score.mean(0)) < 5 * score.std(0) / np.sqrt(len(score))).all()
    np.testing.assert_allclose(found["each"], found["answers"][0][1], rtol=1e-9)
    ended = x[:, 0, 2] == 2
    assert ended.sum() > 20
    np.testing.assert_array_equal(x[ended, 1:], np.broadcast_to([0.0, 0, 2], (ended.sum(), 2, 3)))


@pytest.mark.parametrize("name", IN_TURN)
def test_what_follows_the_end_is_not_read_and_cold_draws_are_the_likeliest(name):
    found = written(name)
    assert not found["seen"].all()
    jax.tree.map(np.testing.assert_array_equal, *found["answers"])
    np.testing.assert_allclose(found["cold"], found["mean"], atol=1e-4)


def test_moves_in_turn_that_cannot_be_are_refused_in_one_line():
    pen, net = likelihoods.StrokesLikelihood(K), IN_TURN["lstm"]
    build = lambda shape, likelihood: Autoencoder(
        Model(encoder=net, latent=2, likelihood=likelihood), shape, rngs=nnx.Rngs(0)
    )
    with pytest.raises(ConfigError, match="use likelihood tokens or strokes"):
        build(TURNS, likelihoods.NormalLikelihood())
    with pytest.raises(ConfigError, match=r"\(steps, 3\) values"):
        build((9,), pen)
    with pytest.raises(ConfigError, match="moves have none"):
        heat(build(TURNS, pen), False, top_k=2)
