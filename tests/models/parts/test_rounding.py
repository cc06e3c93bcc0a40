"""Densities of codes, counts and columns in float32 against float64, short parameters, draws at extreme uniforms."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.random import define_prng_impl

from models import distributions as d
from models import likelihoods, posteriors, priors
from models.batch import Sizes
from models.likelihoods.mixtures.logistics import MixtureOfLogistics
from models.likelihoods.multinomial import Counts
from models.likelihoods.tokens import Symbols
from models.maps import nearest
from models.networks.flows import stack
from models.posteriors.gumbel import Relaxed

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
N, LATENT = 12, 4
COLUMNS = ("ordinal:4", "numeric", "categorical:3", "ordinal:3")
ONE = types.SimpleNamespace(latent=LATENT)


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def normal(*shape):
    return RNG.normal(size=shape)


def columns(gap):
    """Ordered levels whose cuts are 4 to 4 + `gap`, beside the other kinds."""
    module = likelihoods.ColumnsLikelihood(columns=COLUMNS).build(Sizes((4,)), nnx.Rngs(0))
    graph, state = nnx.split(module)
    state["first"][...], state["steps"][...] = jnp.full(2, 4.0), jnp.full((2, 2), np.log(gap))
    leaves, tree = jax.tree.flatten(state)
    x = np.stack([RNG.integers(0, 4, N), RNG.normal(size=N), RNG.integers(0, 3, N), RNG.integers(0, 3, N)], 1)
    make = lambda out, *leaves: nnx.merge(graph, jax.tree.unflatten(tree, leaves), copy=True)(out, None)
    return make, [normal(N, 4, 3), *leaves], x


def low_rank(log_std):
    """Draws of a density whose shared part is far wider than that of each unit."""
    mean, factor, shared = normal(N, LATENT), normal(N, LATENT, 2), normal(N, 2)
    x = mean + np.exp(log_std) * normal(N, LATENT) + np.einsum("bir,br->bi", factor, shared)
    return d.LowRank, [mean, log_std + 0.1 * normal(N, LATENT), factor], x


def counts(total):
    p = RNG.dirichlet(np.ones(20), size=N)
    return (lambda logits: Counts(logits, 10.0)), [np.log(p) + 5], np.stack([RNG.multinomial(total, q) for q in p])


def sphere(dims, kappa):
    mean = unit(normal(N, dims))
    return d.VonMisesFisher, [mean, kappa * np.exp(0.1 * normal(N))], unit(mean + normal(N, dims) / np.sqrt(kappa))


# name: (density of arrays, its parameters, values, the size of the terms that cannot be avoided)
CASES = {
    "low rank": (*low_rank(-4.0), 1e3),
    "full": (d.FullNormal, [normal(N, 3), np.exp(-3) * np.tril(normal(N, 3, 3)) + np.eye(3)], normal(N, 3), 30),
    "sphere": (*sphere(10, 3.0), 50),
    "narrow sphere": (*sphere(10, 1e5), 50),
    "choices": (
        lambda logits: Relaxed(logits, 0.5),
        [np.concatenate([1e4 + normal(6, 3, 5), 1e3 * normal(6, 3, 5)])],
        np.eye(5)[RNG.integers(0, 5, (N, 3))].reshape(N, 15),
        1,
    ),
    "mixture": (
        lambda logits, mean, log_std: d.Mixture(logits, d.Normal(mean, log_std)),
        [1e3 * normal(6), 100 * normal(6, LATENT), normal(6, LATENT) - 5],
        50 * normal(N, LATENT),
        1,
    ),
    "logistics": (
        lambda *a: MixtureOfLogistics(*a, 17),
        [9 * normal(N, 2, 3), normal(N, 2, 3), RNG.uniform(-6, 10, (N, 2, 3))],
        RNG.integers(0, 17, (N, 2)) / 16,
        10,
    ),
    "symbols": (Symbols, [1e3 * normal(N, 3, 5)], RNG.integers(0, 5, (N, 3)), 1),
    "counts": (*counts(1_000_000), 3000),
    "few counts": (*counts(5), 1),
    "columns": (*columns(0.5), 1),
    "close cuts": (*columns(1e-5), 1),
    "cuts without room": (*columns(1e-12), 1),
}


def rounded(arrays, dtype=jnp.float32):
    """Arrays in a short dtype, and the same numbers in float64."""
    short = [jnp.asarray(a, dtype) for a in arrays]
    return short, [a.astype(float) for a in short]


PRIORS = {
    "mixture": priors.MixturePrior(),
    "full mixture": priors.MixturePrior(covariance="full"),
    "free flow": priors.FlowPrior(base="free"),
    "labelled": priors.LabelledPrior(),
}


@pytest.mark.parametrize("name", PRIORS)
def test_a_priors_parameters_in_bfloat16_are_used_in_float32(name):
    """A log deviation plus log(2 pi) / 2 rounded to bfloat16 costs 0.004 nats for every unit."""
    graph, state = nnx.split(PRIORS[name].build(LATENT, Sizes((6,), classes=3), nnx.Rngs(0)))
    leaves, tree = jax.tree.flatten(state)
    short, exact = rounded([leaf + 0.3 * normal(*leaf.shape) for leaf in leaves], jnp.bfloat16)
    z, label = jnp.asarray(normal(N, LATENT), jnp.float32), jnp.arange(N) % 4 - 1

    @jax.jit
    def log_prob(leaves, z):
        return nnx.merge(graph, jax.tree.unflatten(tree, leaves), copy=True)(ONE, label, KEY).log_prob(z)

    np.testing.assert_allclose(log_prob(short, z), log_prob(exact, z.astype(float)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("product", "shift"), [(-25.0, 0.0), (-60.0, 1e-6), (-3.0, 0.3), (5.0, 6.0)])
def test_planar_steps_that_nearly_fold_have_their_log_determinant(product, shift):
    """w·v -> -1: one minus nearly one in float32; far out tanh is 1 and its slope as small."""
    graph, state = nnx.split(stack("planar", 2, 0, 1, 4, nnx.Rngs(0)))
    own = [jnp.asarray([product, 0, 1, 0, shift])]
    short, exact = rounded(own)
    run = jax.jit(lambda own, u: nnx.merge(graph, jax.tree.map(lambda _: own, state), copy=True).forward(u, None)[1])
    got, truth = run(short[0], jnp.zeros((1, 2), jnp.float32)), run(exact[0], jnp.zeros((1, 2)))
    bent = np.tanh(shift)
    by_hand = np.log(bent**2 + (1 - bent**2) * np.log1p(np.exp(product)))
    np.testing.assert_allclose(truth, by_hand, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(got, truth, rtol=1e-5)


def test_the_nearest_entry_far_from_zero():
    """|entry|² - 2 point·entry around 1000 has no digits left in float32 for entries 0.1 apart."""
    book = jnp.asarray(1000 + 0.1 * normal(16, 4), jnp.float32)
    points = book[RNG.integers(0, 16, 200)] + jnp.asarray(0.01 * normal(200, 4), jnp.float32)
    exact = np.square(np.asarray(points, float)[:, None] - np.asarray(book, float)[None]).sum(2).argmin(1)
    np.testing.assert_array_equal(nearest(points, book), exact)


@pytest.mark.parametrize("levels", [4, 5, 1001, 2000, 4001])
def test_finite_scalars_stay_among_their_levels(levels):
    """The bound lies 0.1 % beyond the outer levels: of 2,000 levels that is one more."""
    numbers = jnp.asarray([[-1e4, 0.0, 1e4]])
    q = posteriors.FSQPosterior(levels=levels).build(3, None)(numbers, None, None)
    assert q.indices.tolist() == [[0, levels // 2, levels - 1]]


# Random numbers whose bits are all those of the key, zeros or ones: every uniform is at an end of its interval.
ENDS = define_prng_impl(
    key_shape=(1,),
    seed=lambda word: jnp.broadcast_to(word, 1).astype(jnp.uint32),
    split=lambda key, shape: jnp.broadcast_to(key, (*shape, 1)),
    random_bits=lambda key, bits, shape: jnp.broadcast_to(key[0], shape).astype(f"uint{bits}") * (2**bits // 2**32 + 1),
    fold_in=lambda key, data: key,
    name="ends",
)
# beside those above: densities whose digits have tests of their own
DRAWN = {
    "bits": (d.Bernoulli, [1e4 * normal(N, 3)]),
    "continuous bits": (d.ContinuousBernoulli, [1e4 * normal(N, 3)]),
    "levels": (d.Categorical, [1e4 * normal(N, 3, 4)]),
    "normal": (d.Normal, [normal(N, 3), 10 * normal(N, 3)]),
    "laplace": (d.Laplace, [normal(N, 3), 10 * normal(N, 3)]),
    "logistic": (lambda *a: d.DiscretizedLogistic(*a, 17), [normal(N, 3), normal(N, 3)]),
}


SLOPES = ("low rank", "counts", "cuts without room")  # whose gradients have a formula of their own


def rejects(name):
    """Whether draws ask for other numbers until some are accepted: for ever, of these."""
    return "sphere" in name or "counts" in name


@pytest.fixture(scope="module")
def found():
    """(densities, the same in float64, slopes, draws at both ends with their densities) of all cases: two programs."""
    keys = jax.random.wrap_key_data(jnp.asarray([[0], [2**32 - 1]], jnp.uint32), impl=ENDS)

    def density(name, parameters, values):
        return CASES[name][0](*parameters[name]).log_prob(values[name])

    def drawn(make, parameters):
        def one(key):
            p = make(*parameters)
            draw = p.sample(key)
            return draw, p.log_prob(draw)

        return jax.vmap(one)(keys)

    @jax.jit
    def densities(parameters, values):
        return {name: density(name, parameters, values) for name in CASES}

    @jax.jit
    def all_else(parameters, values):
        slopes = jax.grad(lambda p: sum(density(name, p, values).sum() for name in SLOPES))(parameters)
        every = {name: case for name, case in (CASES | DRAWN).items() if not rejects(name)}
        return slopes, {name: drawn(case[0], parameters[name]) for name, case in every.items()}

    short = {name: rounded(case[1])[0] for name, case in (CASES | DRAWN).items()}
    values = {name: rounded([case[2]])[0][0] for name, case in CASES.items()}
    wide = jax.tree.map(lambda a: a.astype(float), (short, values))
    return densities(short, values), densities(*wide), *all_else(short, values)


@pytest.mark.parametrize("name", CASES)
def test_densities_keep_their_digits_in_float32(name, found):
    got, truth, slopes, _ = (part.get(name) for part in found)
    assert got.dtype == jnp.float32
    assert all(np.isfinite(part).all() for part in slopes)  # zeros but for SLOPES
    error, size = np.abs(got.astype(float) - truth), CASES[name][3]
    assert (error <= 1.2e-7 * (8 * np.abs(truth) + 4 * size)).all()


def test_draws_at_the_ends_of_the_uniforms_are_finite(found):
    draws = found[3]
    assert [name for name, each in draws.items() if not all(np.isfinite(a).all() for a in each)] == []
    assert set(draws) == {name for name in CASES | DRAWN if not rejects(name)}
    first, last = draws["normal"][0]
    assert (first < last).all()  # they are draws at different ends
