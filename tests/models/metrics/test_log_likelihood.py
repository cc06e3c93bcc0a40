"""The importance-weighted likelihood against probabilistic PCA, where log p(x) is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Autoencoder, Dense, Model, likelihoods, metrics, posteriors, ppca
from models.batch import Batch
from models.config import ConfigError
from models.metrics import Shown, Subject, annealed, registry
from models.networks.nothing import Nothing

D, K = 6, 2


def linear_vae(x, spread):
    """Return pPCA of x as a linear VAE whose posterior has `spread` times the exact standard deviation."""
    fitted = ppca(x, K)
    w = fitted.weights
    noise = float(fitted.noise)
    precision = w.T @ w + noise * jnp.eye(K)
    to_code = jnp.linalg.solve(precision, w.T)  # Tipping & Bishop 1999, section 3.2
    std = jnp.sqrt(noise / jnp.diag(precision))  # W^T W is diagonal: its columns are principal axes
    likelihood = likelihoods.NormalLikelihood(std=noise**0.5)
    cfg = Model(encoder=Dense(hidden=()), decoder=Dense(hidden=()), latent=K, likelihood=likelihood)
    model = Autoencoder(cfg, (D,), rngs=nnx.Rngs(0))
    model.encoder.head.kernel[...] = jnp.concatenate([to_code.T, jnp.zeros((D, K))], 1)
    model.encoder.head.bias[...] = jnp.concatenate([-to_code @ fitted.mean, jnp.log(std * spread)])
    model.decoder.last.kernel[...] = w.T
    model.decoder.last.bias[...] = fitted.mean
    return model, fitted.log_likelihood(x)


@pytest.fixture
def x():
    rng = np.random.default_rng(3)
    return jnp.asarray(rng.normal(size=(40, K)) @ rng.normal(size=(K, D)) + 0.5 * rng.normal(size=(40, D)) + 1)


@pytest.mark.parametrize(("samples", "chunk"), [(1, 0), (3, 2), (5, 5), (4, 100)])
def test_with_the_exact_posterior_any_number_of_draws_is_exact(x, samples, chunk):
    model, exact = linear_vae(x, 1.0)
    found = metrics.log_likelihood(model, x, jax.random.key(0), samples, chunk)["log_likelihood_nats"]
    np.testing.assert_allclose(found, exact, rtol=1e-10)


def test_the_bound_grows_with_the_draws_and_reaches_the_likelihood(x):
    model, exact = linear_vae(x, 1.6)
    keys = jax.random.split(jax.random.key(1), 60)
    mean = lambda k: float(
        jnp.mean(jax.vmap(lambda key: metrics.log_likelihood(model, x, key, k)["log_likelihood_nats"])(keys))
    )
    bounds = [mean(k) for k in (1, 4, 16, 64)]
    assert np.all(np.diff(bounds) > 0)
    assert bounds[-1] < float(exact.mean())
    many = metrics.log_likelihood(model, x, jax.random.key(2), 5000, 128)["log_likelihood_nats"]
    np.testing.assert_allclose(many, exact, atol=0.1)


def test_one_draw_is_the_negative_elbo_on_average(x):
    model, _ = linear_vae(x, 1.3)
    keys = jax.random.split(jax.random.key(4), 400)
    one = jax.vmap(lambda k: metrics.log_likelihood(model, x, k, 1)["log_likelihood_nats"])(keys)
    elbo = jax.vmap(lambda k: -metrics.per_example(model, x, k)["negative_elbo_nats"])(keys)
    error = jnp.sqrt(one.var() / one.size + elbo.var() / elbo.size)
    assert abs(float(one.mean() - elbo.mean())) < 4 * float(error)


def test_what_has_no_likelihood_says_so(x):
    point = Autoencoder(Model(posterior=posteriors.PointPosterior(), latent=K), (D,), rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match="a point posterior has no density"):
        metrics.log_likelihood(point, x, jax.random.key(0), 2)
    with pytest.raises(ConfigError, match="samples must be at least 1, got 0"):
        metrics.log_likelihood(linear_vae(x, 1.0)[0], x, jax.random.key(0), 0)


def test_annealed_bounds_bracket_the_exact_likelihood(x):
    """Forward chains from the prior, backward chains from exact codes: q of the linear VAE is the posterior."""
    model, exact = linear_vae(x, 1.0)
    z = model.encode(x).sample(jax.random.key(9))
    run = jax.jit(lambda m, key, steps: annealed.annealed(m, x, key, steps, exact=z), static_argnums=2)
    few, many = (run(model, jax.random.key(1), annealed.Schedule(t, 3, 8)) for t in (10, 60))
    gap = lambda found: float(jnp.mean(found["annealed_upper_nats"] - found["annealed_lower_nats"]))
    for found in (few, many):
        below, above = exact - found["annealed_lower_nats"], found["annealed_upper_nats"] - exact
        for side in (below, above):
            assert float(side.mean()) > -3 * float(side.std()) / len(x) ** 0.5
    assert 0 < gap(many) < 0.5 * gap(few)
    with pytest.raises(ConfigError, match="at least 1 temperature"):
        annealed.annealed(model, x, jax.random.key(0), annealed.Schedule(0))


@pytest.mark.parametrize(
    ("likelihood", "refused"),
    [
        (likelihoods.NormalLikelihood(), False),
        (likelihoods.NormalLikelihood(scale="learned"), True),
        (likelihoods.DiscretizedLogisticLikelihood(), True),
    ],
)
def test_without_an_encoder_a_spread_that_no_sample_trained_is_not_annealed(likelihood, refused, x):
    cfg = Model(encoder=Nothing(), decoder=Dense((4,)), latent=2, likelihood=likelihood)
    subject = Subject(Autoencoder(cfg, (D,), rngs=nnx.Rngs(0)), Shown(Batch(np.asarray(x))))
    assert ("spread" in registry.BY_NAME["annealed"].why_not(subject)) == refused
