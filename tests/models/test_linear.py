"""PCA and probabilistic PCA against their definitions; linear autoencoders reach them."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from flax import nnx

from models import ELBO, Autoencoder, Dense, Model, likelihoods, pca, posteriors, ppca


@pytest.fixture(scope="module")
def table():
    """Correlated rows with a clear spectrum: 200 of 6 values."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    return jnp.asarray(rng.normal(size=(200, 6)) * [2, 1.5, 0.6, 0.5, 0.4, 0.3] @ rotation + 0.5)


@pytest.mark.parametrize("rows", [200, 4])
def test_pca_is_the_truncated_svd(table, rows):
    x = table[:rows]
    fitted = pca(x, 3)
    mean = x.mean(0)[None]
    centred = x - mean
    u, s, v = np.linalg.svd(np.asarray(centred), full_matrices=False)
    np.testing.assert_allclose(fitted.reconstruct(x), (u[:, :3] * s[:3]) @ v[:3] + mean, atol=1e-10)
    np.testing.assert_allclose(fitted.variances, s[:3] ** 2 / rows, rtol=1e-10)
    np.testing.assert_allclose(fitted.components @ fitted.components.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(fitted.encode(x).var(0), fitted.variances, rtol=1e-10)


def test_pca_of_the_digits_has_the_reference_errors():
    """Squared error per test image; the reference split is stratified, a quarter, with random_state 0."""
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.model_selection import train_test_split

    digits = datasets.load_digits()
    train, test = train_test_split(digits.data / 16, test_size=450, random_state=0, stratify=digits.target)
    errors = [float(((test - pca(train, k).reconstruct(test)) ** 2).sum(1).mean()) for k in (2, 4, 8, 16, 32)]
    np.testing.assert_allclose(errors, [3.393, 2.444, 1.575, 0.739, 0.169], atol=5e-4)


def test_ppca_likelihood_is_the_normal_density(table):
    fitted = ppca(table, 2)
    covariance = fitted.weights @ fitted.weights.T + fitted.noise * jnp.eye(6)
    truth = scipy.stats.multivariate_normal(fitted.mean, covariance).logpdf(table)
    np.testing.assert_allclose(fitted.log_likelihood(table), truth, rtol=1e-10)


def test_ppca_is_the_maximum_of_the_likelihood(table):
    """The gradient of the mean log-likelihood in W and noise is zero, and moving away lowers it."""
    fitted = ppca(table, 2)

    def likelihood(weights, log_noise):
        covariance = weights @ weights.T + jnp.exp(log_noise) * jnp.eye(6)
        centred = table - fitted.mean[None]
        distance = jnp.sum(centred * jnp.linalg.solve(covariance, centred.T).T, axis=1)
        return -0.5 * (distance.mean() + jnp.linalg.slogdet(2 * jnp.pi * covariance)[1])

    at = (fitted.weights, jnp.log(fitted.noise))
    value, gradients = jax.jit(jax.value_and_grad(likelihood, (0, 1)))(*at)
    assert max(float(jnp.abs(g).max()) for g in gradients) < 1e-9
    assert value > likelihood(1.1 * fitted.weights, at[1])
    assert value > likelihood(fitted.weights, at[1] + 0.1)


def test_bad_widths_are_named(table):
    for k in (0, 7):
        with pytest.raises(ValueError, match=f"got {k}"):
            pca(table, k)
    with pytest.raises(ValueError, match="got 6"):
        ppca(table, 6)
    with pytest.raises(ValueError, match="unbounded"):
        ppca(table[:, :1] * jnp.ones((1, 3)), 1)


def minimise(loss, params):
    """Return the parameters at a minimum of `loss` over the full batch (BFGS)."""
    flat, build = jax.flatten_util.ravel_pytree(params)
    value_and_grad = jax.jit(jax.value_and_grad(lambda v: loss(build(v))))
    found = scipy.optimize.minimize(value_and_grad, flat, jac=True, method="BFGS", options={"gtol": 1e-7})
    return build(jnp.asarray(found.x))


def linear_model(posterior, likelihood, k):
    cfg = Model(encoder=Dense(()), latent=k, posterior=posterior, likelihood=likelihood)
    model = Autoencoder(cfg, (6,), rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    return params, lambda p: nnx.merge(graph, p, rest, copy=True)


def test_linear_autoencoder_reaches_pca(table):
    params, build = linear_model(posteriors.PointPosterior(), likelihoods.NormalLikelihood(), 2)

    def loss(p):
        model = build(p)
        return jnp.mean(jnp.sum((table - model.decode(model.encode(table).mean).mean) ** 2, axis=1))

    best = float(jnp.mean(jnp.sum((table - pca(table, 2).reconstruct(table)) ** 2, axis=1)))
    reached = float(loss(minimise(loss, params)))
    assert best * (1 - 1e-10) <= reached <= best * (1 + 1e-4)


def test_linear_vae_reaches_ppca(table):
    """Trained on its exact ELBO (Lucas et al. 2019): the optimum is probabilistic PCA's log-likelihood.

    E_q|x - decode(z)|² is exact for an affine decoder from its values at mean ± std of each code dimension:
    the mean over the 2k points mean ± sqrt(k) std_j e_j has the mean and the second moment of q.
    """
    k = 2
    params, build = linear_model(posteriors.NormalPosterior(), likelihoods.NormalLikelihood("learned"), k)

    def negative_elbo(p):
        model = build(p)
        q = model.encode(table)
        nll = 0.0
        for j in range(k):
            for sign in (-1, 1):
                z = q.mean.at[:, j].add(sign * k**0.5 * jnp.exp(q.log_std[:, j]))
                nll = nll - model.decode(z).log_prob(table).mean() / (2 * k)
        return nll + q.kl(model.prior()).mean()

    best = float(-ppca(table, k).log_likelihood(table).mean())
    solution = minimise(negative_elbo, params)
    reached = float(negative_elbo(solution))
    assert best * (1 - 1e-10) <= reached <= best * (1 + 1e-4)
    # and the objective's own estimate, from one draw per example, agrees with the exact bound
    big = jnp.tile(table, (50, 1))
    terms = jax.jit(lambda: ELBO()(build(solution), big, jax.random.key(0))[1])()
    draws = terms["negative_elbo"]
    per_row = draws.reshape(50, 200)
    error = float(per_row.std(0).mean()) / 100  # 10,000 draws
    assert abs(float(draws.mean()) - reached) < 5 * error
