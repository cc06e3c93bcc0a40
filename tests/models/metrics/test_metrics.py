"""Metrics against their formulas, and weight penalties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import (
    ELBO,
    Autoencoder,
    Conv,
    Dense,
    Model,
    likelihoods,
    per_example,
    posteriors,
    summarize,
    weight_penalty,
)

KEY = jax.random.key(0)
X = jnp.round(jax.random.uniform(KEY, (5, 6)))


def build(encoder=Dense((4,)), shape=(6,), **more):
    return Autoencoder(Model(encoder=encoder, latent=3, **more), shape, rngs=nnx.Rngs(0))


def test_vae_metrics_are_the_elbo_and_the_errors_of_the_mean_code():
    model = build()
    got = jax.jit(lambda: per_example(model, X, KEY))()
    q = model.encode(X)
    mean = model.decode(q.mean).mean
    nll = -model.decode(q.sample(KEY)).log_prob(X)
    np.testing.assert_allclose(got["nll_nats"], nll, rtol=1e-12)
    np.testing.assert_allclose(got["kl_nats"], q.kl(model.prior()), rtol=1e-12)
    np.testing.assert_allclose(got["negative_elbo_nats"], got["nll_nats"] + got["kl_nats"], rtol=1e-12)
    np.testing.assert_allclose(got["bits_per_dim"], got["negative_elbo_nats"] / 6 / np.log(2), rtol=1e-12)
    np.testing.assert_allclose(got["mse"], np.square(X - mean).mean(1), rtol=1e-12)
    np.testing.assert_allclose(got["mae"], np.abs(X - mean).mean(1), rtol=1e-12)
    # over draws, the same bound as the objective's
    keys = jax.random.split(KEY, 2000)
    ours = jax.jit(jax.vmap(lambda k: per_example(model, X, k)["negative_elbo_nats"]))(keys)
    theirs = jax.jit(jax.vmap(lambda k: ELBO(beta=1.0)(model, X, k, False)[0]))(keys)
    assert (jnp.abs(ours.mean(0) - theirs.mean(0)) < 5 * jnp.sqrt(2 * ours.var(0) / 2000)).all()


def test_point_metrics_and_evaluation_mode():
    model = build(
        Dense((4,), dropout=0.5, norm="batch"),
        posterior=posteriors.PointPosterior(),
        likelihood=likelihoods.LaplaceLikelihood(),
    )
    first, second = (jax.jit(per_example)(model, X, jax.random.key(k)) for k in (0, 1))
    assert set(first) == {"mse", "mae", "nll_nats"}
    jax.tree.map(np.testing.assert_array_equal, first, second)  # no dropout: nothing is random
    np.testing.assert_allclose(first["nll_nats"], 6 * (first["mae"] + np.log(2)), rtol=1e-12)


@pytest.mark.parametrize(
    ("likelihood", "bound", "bits"),
    [
        (likelihoods.BernoulliLikelihood(), "negative_elbo_nats", "bits_per_dim"),
        (likelihoods.DiscretizedLogisticLikelihood(), "negative_elbo_nats", "bits_per_dim"),
        (likelihoods.LogisticMixtureLikelihood(), "negative_elbo_nats", "bits_per_dim"),
        (likelihoods.CategoricalLikelihood(levels=2), "negative_elbo_nats", "bits_per_dim"),
        (likelihoods.TokensLikelihood(symbols=2), "negative_elbo_nats", "bits_per_dim"),
        (likelihoods.MultinomialLikelihood(), "negative_elbo_nats", "bits_per_dim"),
        (likelihoods.NormalLikelihood(), "negative_elbo_nats", "density_bits_per_dim"),
        (likelihoods.LaplaceLikelihood(), "negative_elbo_nats", "density_bits_per_dim"),
        (likelihoods.ContinuousBernoulliLikelihood(), "negative_elbo_nats", "density_bits_per_dim"),
        (likelihoods.ColumnsLikelihood(), "negative_elbo_nats", "density_bits_per_dim"),
        (likelihoods.BernoulliLikelihood(grey=True), "penalised_cross_entropy_nats", None),
    ],
)
def test_names_say_what_bits_and_bounds_are_of(likelihood, bound, bits):
    """Codes for discrete data, densities, and cross-entropy of grey values do not share a name."""
    got = per_example(build(likelihood=likelihood), X, KEY)
    names = {"negative_elbo_nats", "penalised_cross_entropy_nats", "bits_per_dim", "density_bits_per_dim"}
    assert names & set(got) == {bound} | ({bits} if bits else set())
    nll = got["nll_nats" if bits else "cross_entropy_nats"]
    np.testing.assert_allclose(got[bound], nll + got["kl_nats"], rtol=1e-12)
    assert ("wrong_symbols" in got) == isinstance(likelihood, likelihoods.TokensLikelihood)
    assert ("mse" in got) != ("wrong_symbols" in got)


def test_summary_is_the_exact_mean_and_rmse_its_root():
    got = summarize({"mse": 8.0, "kl_nats": 3.0}, 2)
    assert got == {"mse": 4.0, "kl_nats": 1.5, "rmse": 2.0}
    with pytest.raises(ValueError, match="at least one"):
        summarize({"mse": 0.0}, 0)


@pytest.mark.parametrize("encoder", [Dense((4,), norm="layer"), Conv((2,), norm="batch")])
def test_weight_penalty_is_over_kernels_only(encoder):
    """Biases and norm scales, set to 1e6, do not count; every matrix and filter does."""
    model = build(encoder, (4, 4, 1))
    params = nnx.split(model, nnx.Param, ...)[1]
    params = jax.tree.map(lambda p: p if p.ndim > 1 else 1e6 + 0 * p, params)
    kernels = [np.asarray(p) for p in jax.tree.leaves(params) if p.ndim > 1]
    expected = sum(0.3 * np.abs(k).sum() + 0.7 * np.square(k).sum() for k in kernels)
    np.testing.assert_allclose(weight_penalty(params, 0.3, 0.7), expected, rtol=1e-12)
    np.testing.assert_allclose(weight_penalty(nnx.to_pure_dict(params), 0.3, 0.7), expected, rtol=1e-12)
