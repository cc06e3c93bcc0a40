"""Mixtures of logistics, tokens, counts and mixed columns: probabilities sum to 1, draws follow them, masks hide."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

from models import ConfigError, likelihoods
from models.batch import Batch, Sizes
from models.config import validate

KEY = jax.random.key(0)
COLUMNS = ("ordinal:4", "numeric", "categorical:3", "ordinal:2", "numeric", "categorical:2")


def density(likelihood, shape, seed=0, scale=1.0):
    """p of one example, from random numbers of a decoder."""
    module = likelihood.build(Sizes(shape), nnx.Rngs(0))
    out = scale * jax.random.normal(jax.random.key(seed), (1, *shape, likelihood.channels()))
    return module(out, None)


def like(p, n):
    """p of one example, repeated; what all examples share stays."""
    return jax.tree.map(lambda a: jnp.repeat(a, n, axis=0) if a.ndim > 1 and len(a) == 1 else a, p)


def all_of(*values):
    return jnp.asarray(list(itertools.product(*values)), float)


def points(name):
    """(p, every x of a discrete likelihood) for events of two values (tokens, levels, counts with a total of 6)."""
    if name == "logistic_mixture":
        levels = np.arange(17) / 16
        return density(likelihoods.LogisticMixtureLikelihood(levels=17), (2,)), all_of(levels, levels)
    if name == "tokens":
        return density(likelihoods.TokensLikelihood(symbols=5), (2,)), all_of(range(5), range(5)).astype(jnp.int32)
    p = density(likelihoods.MultinomialLikelihood(), (3,))._replace(total=jnp.asarray(6.0))
    every = all_of(*[range(7)] * 3)
    return p, every[every.sum(1) == 6]


DISCRETE = ["logistic_mixture", "tokens", "multinomial"]


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_sum_to_one_and_draws_follow_them(name):
    p, x = points(name)
    probability = np.asarray(jnp.exp(jax.jit(lambda v: like(p, len(x)).log_prob(v))(x)))
    np.testing.assert_allclose(probability.sum(), 1, rtol=1e-10)
    n = 20_000
    draws = np.asarray(jax.jit(lambda k: like(p, n).sample(k))(KEY))
    index = {tuple(np.round(row, 6)): i for i, row in enumerate(np.asarray(x, float))}
    counts = np.bincount([index[tuple(np.round(row, 6))] for row in np.asarray(draws, float)], minlength=len(x))
    expected = n * probability
    error = np.abs(counts - expected) / np.sqrt(expected + 1)
    assert error.max() < 5.5
    if name == "tokens":
        np.testing.assert_allclose(p.entropy()[0], -(probability * np.log(probability)).sum(), rtol=1e-10)
        assert draws.dtype == np.int32
    else:
        gap = np.abs(probability @ np.asarray(x) - p.mean[0])
        assert gap.max() < (1 / 32 if name == "logistic_mixture" else 1e-9)


def test_one_logistic_is_the_discretised_logistic():
    x = jnp.round(jax.random.uniform(KEY, (4, 3)) * 16) / 16
    out = jax.random.normal(KEY, (4, 3, 3))
    mixture = likelihoods.LogisticMixtureLikelihood(components=1, width=0.3, levels=17)(out, None)
    single = likelihoods.DiscretizedLogisticLikelihood(width=0.3, levels=17)(out[..., 1:], None)
    np.testing.assert_allclose(mixture.log_prob(x), single.log_prob(x), rtol=1e-12)
    np.testing.assert_allclose(mixture.mean, single.mean, rtol=1e-12)


def test_multinomial_is_scipys_and_a_mask_makes_it_conditional():
    p, x = points("multinomial")
    theirs = scipy.stats.multinomial(6, np.asarray(p.probabilities())[0]).logpmf(np.asarray(x))
    np.testing.assert_allclose(like(p, len(x)).log_prob(x), theirs, rtol=1e-9)
    mask = jnp.asarray([[True, True, False]])
    some = all_of(range(5), range(5))
    some = jnp.concatenate([some[some.sum(1) == 4], jnp.full((5, 1), 99.0)], 1)  # whatever stands at a hidden value
    seen = like(p, 5).log_prob(some, jnp.repeat(mask, 5, 0))
    np.testing.assert_allclose(jnp.exp(seen).sum(), 1, rtol=1e-10)


def test_the_total_of_counts_is_that_of_the_batches():
    module = likelihoods.MultinomialLikelihood().build(Sizes((3,)), nnx.Rngs(0))
    x = jnp.asarray([[1.0, 2.0, 3.0], [2.0, 2.0, 4.0]])
    for _ in range(300):
        module.track(module(jnp.zeros((2, 3, 1)), KEY), Batch(x))
    np.testing.assert_allclose(module(jnp.zeros((2, 3, 1)), None).mean.sum(1), 7, rtol=1e-9)


def mixed():
    return density(likelihoods.ColumnsLikelihood(columns=COLUMNS, std=0.7), (6,))


@pytest.mark.parametrize("column", range(6))
def test_every_column_is_normalised_alone(column):
    """A mask leaves one column: its probabilities sum, its density integrates, to 1."""
    p, name = mixed(), COLUMNS[column]
    if name == "numeric":
        nodes, weights = np.polynomial.legendre.leggauss(200)
        values, weights = 10 * nodes, 10 * weights
    else:
        values = np.arange(int(name.split(":")[1]))
        weights = np.ones(len(values))
    x = jnp.full((len(values), 6), 77.0).at[:, column].set(values)
    mask = jnp.zeros(x.shape, bool).at[:, column].set(True)
    probability = weights * np.exp(like(p, len(x)).log_prob(x, mask))
    np.testing.assert_allclose(probability.sum(), 1, rtol=1e-9)
    draws = np.asarray(like(p, 20_000).sample(KEY))[:, column]
    assert abs(draws.mean() - probability @ values) < 5 * draws.std() / np.sqrt(20_000)
    if not name.startswith("categorical"):  # whose mean is the likeliest code
        np.testing.assert_allclose(p.mean[0, column], probability @ values, rtol=1e-9)
    else:
        assert p.mean[0, column] == np.argmax(probability)


def test_columns_add_up_and_missing_values_get_no_gradient():
    module = likelihoods.ColumnsLikelihood(columns=COLUMNS).build(Sizes((6,)), nnx.Rngs(0))
    out = jax.random.normal(KEY, (2, 6, 3))
    x = jnp.asarray([[1.0, 0.5, 2, 1, -1, 0], [3.0, 0.1, 0, 0, 2, 1]])
    mask = jnp.asarray([[True, False, True, True, True, False]] * 2)
    alone = sum(module(out, None).log_prob(x, jnp.zeros((2, 6), bool).at[:, i].set(True)) for i in range(6))
    np.testing.assert_allclose(module(out, None).log_prob(x), alone, rtol=1e-12)
    slope = jax.grad(lambda o: module(o, None).log_prob(x, mask).sum())(out)
    np.testing.assert_array_equal(slope[:, ~mask[0]], 0)
    assert (jnp.abs(slope[:, mask[0]]).sum(-1) > 0).all()
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    learned = jax.grad(lambda q: nnx.merge(graph, q, rest, copy=True)(out, None).log_prob(x).sum())(params)
    assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(learned))


@pytest.mark.parametrize(
    "likelihood", [likelihoods.LogisticMixtureLikelihood(levels=5), likelihoods.TokensLikelihood(symbols=4)]
)
def test_a_mask_hides_values(likelihood):
    p = density(likelihood, (2,))
    x = jnp.asarray([[0.0, 1.0]])
    mask = jnp.asarray([[True, False]])
    np.testing.assert_allclose(p.log_prob(x, mask), p.log_prob(jnp.asarray([[0.0, 0.0]]), mask), rtol=1e-15)
    np.testing.assert_allclose(p.log_prob(x, mask) + p.log_prob(x, ~mask), p.log_prob(x), rtol=1e-12)


@pytest.mark.parametrize(
    ("likelihood", "words"),
    [
        (likelihoods.ColumnsLikelihood(columns=("number",)), "numeric, categorical:K or ordinal:K"),
        (likelihoods.ColumnsLikelihood(columns=("ordinal:1",)), "at least 2, got 'ordinal:1'"),
        (likelihoods.TokensLikelihood(symbols=1), "at least 2"),
        (likelihoods.LogisticMixtureLikelihood(levels=1), "at least 2"),
        (likelihoods.LogisticMixtureLikelihood(components=0), "components must be >= 1"),
    ],
)
def test_impossible_fields_are_named(likelihood, words):
    with pytest.raises(ConfigError, match=words):
        validate(likelihood)


def test_columns_must_name_every_column():
    with pytest.raises(ConfigError, match="all 6 columns of the data, got 2"):
        likelihoods.ColumnsLikelihood(columns=("numeric", "ordinal:3")).build(Sizes((6,)), nnx.Rngs(0))
