"""Densities integrate to one, means and divergences equal their integrals, nothing overflows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import distributions as d
from models.codes import log_of_many
from models.distributions import continuous_bernoulli as cb

EPS = float(jnp.finfo(float).eps)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(120)
LOGITS = [-40.0, -3.0, -1.0, -1e-3, 0.0, 1e-9, 0.5, 0.999999, 1.000001, 7.0, 60.0]


def grid(breaks):
    """Gauss-Legendre nodes and weights on consecutive intervals, as (n, 1) examples of one value."""
    lows, highs = np.array(breaks[:-1])[:, None], np.array(breaks[1:])[:, None]
    x = (lows + highs) / 2 + (highs - lows) / 2 * NODES[None]
    return jnp.asarray(x.reshape(-1, 1)), jnp.asarray(((highs - lows) / 2 * WEIGHTS[None]).ravel())


def like(p, x):
    """`p` of one example and value, repeated to the batch of x."""
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (x.shape[0], *a.shape[1:])), p)


def one(*values):
    return [jnp.full((1, 1), v) for v in values]


LEVELS = (jnp.arange(256.0) / 255)[:, None]
ONES = jnp.ones(256)
WIDE = [-60.0, -10.0, -3.0, 0.3, 3.0, 10.0, 60.0]  # 0.3 is where the Laplace densities below have their kink
RANDOM_LOGITS = jax.random.normal(jax.random.key(1), (2, 1, 256))
# (distribution, another of its class, the points and weights over which it sums or integrates to 1)
CASES = {
    "normal": (d.Normal(*one(0.3, -0.2)), d.Normal(*one(-0.5, 0.4)), grid(WIDE)),
    "laplace": (d.Laplace(*one(0.3, 0.1)), d.Laplace(*one(-3.0, 0.7)), grid(WIDE)),
    "bernoulli": (d.Bernoulli(*one(1.3)), d.Bernoulli(*one(-0.4)), (LEVELS[::255], ONES[:2])),
    "continuous": (d.ContinuousBernoulli(*one(2.5)), d.ContinuousBernoulli(*one(0.01)), grid([0, 1])),
    "logistic": (d.DiscretizedLogistic(*one(0.9, -2.5)), None, (LEVELS, ONES)),
    "categorical": (d.Categorical(RANDOM_LOGITS[:1]), d.Categorical(RANDOM_LOGITS[1:]), (LEVELS, ONES)),
}


@pytest.mark.parametrize("name", CASES)
def test_integrals(name):
    p, other, (x, weights) = CASES[name]
    p = like(p, x)
    density = weights * jnp.exp(p.log_prob(x))
    np.testing.assert_allclose(density.sum(), 1, rtol=1e-10)
    # the mean of the discretised logistic is the clipped variable's, here equal to far below a level
    np.testing.assert_allclose(density @ x[:, 0], p.mean[0, 0], rtol=1e-4 if name == "logistic" else 1e-10)
    if hasattr(p, "entropy"):
        np.testing.assert_allclose(-density @ p.log_prob(x), p.entropy()[0], rtol=1e-10)
    if other is not None:
        q = like(other, x)
        integral = density @ (p.log_prob(x) - q.log_prob(x))
        np.testing.assert_allclose(p.kl(q)[0], integral, rtol=1e-9)
        np.testing.assert_allclose(p.kl(p), 0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_samples_have_the_distribution(name):
    """E[-log p(x)] and E[x] over draws, within five standard errors of their integrals."""
    p, _, (x, weights) = CASES[name]
    density = weights * jnp.exp(like(p, x).log_prob(x))
    many = like(p, jnp.zeros((20_000, 1)))
    draws = many.sample(jax.random.key(0))
    assert draws.shape == (20_000, 1)
    for f in (lambda q, v: v[:, 0], lambda q, v: q.log_prob(v)):
        values, truth = f(many, draws), density @ f(like(p, x), x)
        assert abs(values.mean() - truth) < 5 * values.std() / np.sqrt(20_000)


def test_batch_is_the_first_axis_and_the_event_all_others():
    x = jax.random.uniform(jax.random.key(0), (3, 2, 4))
    p = d.Normal(x + 1, 0.1 * x)
    flat = d.Normal(p.mean.reshape(3, 8), p.log_std.reshape(3, 8))
    assert p.log_prob(x).shape == (3,)
    np.testing.assert_allclose(p.log_prob(x), flat.log_prob(x.reshape(3, 8)), rtol=1e-13)
    prior = d.Normal(jnp.zeros((1, 8)), jnp.zeros((1, 8)))
    np.testing.assert_allclose(flat.kl(prior)[1], jax.tree.map(lambda a: a[1:2], flat).kl(prior)[0], rtol=1e-13)


def test_shared_scale_equals_one_per_value():
    x = jax.random.normal(jax.random.key(0), (3, 5))
    for kind in (d.Normal, d.Laplace):
        shared, each = kind(0 * x, jnp.asarray(0.7)), kind(0 * x, jnp.full(x.shape, 0.7))
        np.testing.assert_allclose(shared.log_prob(x), each.log_prob(x), rtol=1e-13)
        np.testing.assert_allclose(shared.entropy(), each.entropy(), rtol=1e-13)


@pytest.mark.parametrize("kind", [d.Bernoulli, d.ContinuousBernoulli])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_logits_of_ten_thousand(kind, dtype):
    """Value and gradient are finite and right at |logit| = 1e4; naive forms give inf and NaN."""
    logits = jnp.asarray([[-1e4], [-1e4], [1e4], [1e4], [90.0], [-90.0]], dtype)
    x = jnp.asarray([[0.0], [1.0], [0.0], [1.0], [1.0], [0.0]], dtype)
    total = lambda v: kind(v).log_prob(x).sum()
    value = kind(logits).log_prob(x)
    push = jax.jit(lambda v: jax.jvp(jax.grad(total), (v,), (jnp.ones_like(v),)))
    gradient, hessian = push(logits)
    assert jnp.isfinite(value).all()
    assert jnp.isfinite(gradient).all()
    assert jnp.isfinite(hessian).all()
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(gradient, x - kind(logits).mean, atol=4 * eps)
    # log p = x l - A(l) with A = max(l, 0), less log |l| for the continuous one
    edge = 0 if kind is d.Bernoulli else np.log(1e4)
    np.testing.assert_allclose(value[:4], [edge, edge - 1e4, edge - 1e4, edge], atol=1e4 * eps)


def test_bernoulli_gradient_is_x_minus_mean():
    logits = jnp.asarray(LOGITS)[:, None]
    x = jnp.linspace(0, 1, len(LOGITS))[:, None]
    gradient = jax.grad(lambda v: d.Bernoulli(v).log_prob(x).sum())(logits)
    np.testing.assert_allclose(gradient, x - jax.nn.sigmoid(logits), rtol=1e-13, atol=1e-15)
    curvature = jax.jit(jax.vmap(jax.grad(jax.grad(d.softplus))))(logits[:, 0])
    p = jax.nn.sigmoid(logits[:, 0])
    np.testing.assert_allclose(curvature, p * (1 - p), rtol=1e-13, atol=1e-15)


def test_continuous_bernoulli_against_quadrature():
    """Normaliser, mean and variance at every logit, also where their formulas lose all digits."""
    x, weights = grid([0, 0.25, 0.5, 0.75, 1])
    logits = jnp.asarray(LOGITS)
    power = jnp.exp(x * logits[None]) * weights[:, None]
    mean = (power * x).sum(0) / power.sum(0)
    variance = (power * (x - mean[None]) ** 2).sum(0) / power.sum(0)
    np.testing.assert_allclose(cb.log_normalizer(logits), jnp.log(power.sum(0)), rtol=1e-12, atol=4 * EPS)
    np.testing.assert_allclose(cb.mean(logits), mean, rtol=1e-13)
    derivative = lambda f: jax.jit(lambda v: jax.jvp(f, (v,), (jnp.ones_like(v),))[1])(logits)
    np.testing.assert_allclose(derivative(cb.mean), variance, rtol=1e-11)
    np.testing.assert_allclose(derivative(cb.log_normalizer), mean, rtol=1e-13)


def test_continuous_bernoulli_quantile_inverts_the_distribution_function():
    uniform = jnp.linspace(0.01, 0.99, 9)[:, None]
    logits = jnp.asarray([-500.0, -2.0, -1e-5, 0.0, 1e-7, 3.0, 500.0])[None]
    x = cb.quantile(jnp.broadcast_to(uniform, (9, 7)), jnp.broadcast_to(logits, (9, 7)))
    mass = cb.log_normalizer(logits * x) - cb.log_normalizer(logits)  # log of P(X <= x) / x
    np.testing.assert_allclose(x * jnp.exp(mass), jnp.broadcast_to(uniform, (9, 7)), rtol=1e-6)


@pytest.mark.parametrize("log_scale", [-8.0, -4.0, 0.0, 5.0])
@pytest.mark.parametrize("location", [-0.5, 0.0, 0.5003, 1.4])
def test_discretized_logistic_sums_to_one(log_scale, location):
    p = like(d.DiscretizedLogistic(*one(location, log_scale)), LEVELS)
    np.testing.assert_allclose(jnp.exp(p.log_prob(LEVELS)).sum(), 1, rtol=1e-9)


def test_discretized_logistic_equals_differences_of_its_distribution_function():
    location, scale = 0.4, 0.07
    edges = (np.arange(1, 256) - 0.5) / 255
    cumulative = np.concatenate([[0], 1 / (1 + np.exp(-(edges - location) / scale)), [1]])
    p = like(d.DiscretizedLogistic(*one(location, np.log(scale))), LEVELS)
    np.testing.assert_allclose(jnp.exp(p.log_prob(LEVELS)), np.diff(cumulative), rtol=1e-9)


def test_discretized_logistic_is_finite_far_away():
    x = jnp.asarray([[0.0], [128 / 255], [1.0]])
    for location in (-1e4, 1e4):
        total = lambda m, s: d.DiscretizedLogistic(m, s).log_prob(x).sum()
        inputs = jnp.full((3, 1), location), jnp.full((3, 1), -4.0)
        value, gradients = jax.jit(jax.value_and_grad(total, (0, 1)))(*inputs)
        assert all(np.isfinite(v).all() for v in (value, *gradients))


def test_discretized_logistic_mean_is_within_half_a_level():
    for location, log_scale in ((0.3, -7.0), (0.999, -3.0), (-2.0, 0.0), (0.5, 3.0)):
        p = like(d.DiscretizedLogistic(*one(location, log_scale)), LEVELS)
        exact = jnp.exp(p.log_prob(LEVELS)) @ LEVELS[:, 0]
        assert abs(exact - p.mean[0, 0]) <= 0.5 / 255


def test_optimal_normal_is_the_best_scale():
    """Its log_prob is the largest over σ, and its gradient that of a normal with σ held at the optimum."""
    key = jax.random.key(0)
    x, mean = jax.random.normal(key, (6, 3)), jax.random.normal(jax.random.fold_in(key, 1), (6, 3))
    p = d.OptimalNormal(mean, jnp.asarray(0.0))
    best = 0.5 * jnp.log(jnp.mean((x - mean) ** 2))
    for offset in (-0.1, 0.1):
        assert p.log_prob(x).sum() > d.Normal(mean, best + offset).log_prob(x).sum()
    np.testing.assert_allclose(p.log_prob(x), d.Normal(mean, best).log_prob(x), rtol=1e-13)
    at = lambda kind, scale: jax.jit(jax.grad(lambda m: kind(m, scale).log_prob(x).sum()))(mean)
    np.testing.assert_allclose(at(d.OptimalNormal, best), at(d.Normal, best), rtol=1e-12)


def test_optimal_normal_of_a_perfect_reconstruction_is_finite():
    x = jnp.ones((2, 3))
    total = lambda m: d.OptimalNormal(m, jnp.asarray(0.0)).log_prob(x).sum()
    value, gradient = jax.jit(jax.value_and_grad(total))(x)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_point_returns_its_mean():
    z = jnp.ones((2, 3))
    np.testing.assert_array_equal(d.Point(z).sample(jax.random.key(0)), z)


def test_normal_sample_is_reparameterised():
    """d sample / d mean = 1 and d sample / d log_std = sample - mean."""
    key, mean, log_std = jax.random.key(0), jnp.ones((2, 3)), jnp.full((2, 3), 0.3)
    draw = lambda m, s: d.Normal(m, s).sample(key)
    _, tangent = jax.jvp(draw, (mean, log_std), (0 * mean, jnp.ones_like(mean)))
    np.testing.assert_allclose(tangent, draw(mean, log_std) - mean, rtol=1e-12)
    _, tangent = jax.jvp(draw, (mean, log_std), (jnp.ones_like(mean), 0 * mean))
    np.testing.assert_allclose(tangent, 1, rtol=1e-15)


def test_log1p_of_unit_is_exact_to_float32_rounding():
    """Against float64, over all magnitudes from 1e-37 to 1, within 3 units in the last place."""
    e = np.concatenate([[0.0, 1.0], np.exp(np.linspace(np.log(1e-37), 0, 20001))]).astype(np.float32)
    got = np.asarray(d.log1p_of_unit(jnp.asarray(e)), np.float64)
    np.testing.assert_allclose(got, np.log1p(e.astype(np.float64)), rtol=3 * np.finfo(np.float32).eps, atol=1e-44)


@pytest.mark.parametrize(
    "make",
    [
        lambda a: d.Bernoulli(a),
        lambda a: d.ContinuousBernoulli(a),
        lambda a: d.Normal(a, a / 10),
        lambda a: d.DiscretizedLogistic(a, a / 10, 17),
        lambda a: d.Laplace(a, a),
    ],
)
def test_densities_of_many_draws_are_the_densities(make):
    """Terms made before they are summed: the same sum over what was observed."""
    x = jnp.linspace(0, 1, 48).reshape(3, 4, 4, 1)
    p, seen = make(jnp.cos(40 * x)), x > 0.3
    np.testing.assert_allclose(log_of_many(p, x, seen), p.log_prob(x, seen), rtol=1e-12)


@pytest.mark.parametrize(("event", "hidden"), [((4, 6), False), ((4, 6), True), ((13,), True)])
def test_bits_of_many_draws_take_one_logarithm_for_several(event, hidden):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(3 * 2, *event)) * 10.0 ** rng.integers(-3, 4, (3 * 2, *event)))
    x, mask = jnp.asarray(rng.random((2, *event))), jnp.asarray(rng.random((2, *event)) < 0.5) if hidden else None
    many = [None if a is None else jnp.concatenate([a] * 3) for a in (x, mask)]
    found = d.Bernoulli(logits).log_prob_of_draws(x, mask)
    np.testing.assert_allclose(found, d.Bernoulli(logits).log_prob(*many), rtol=1e-12)
