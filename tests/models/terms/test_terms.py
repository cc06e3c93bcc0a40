"""Laws of every term: closed forms and quadratures, every field changes it, weights only multiply."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import (
    Autoencoder,
    ConfigError,
    Dense,
    Dictionary,
    Model,
    Pass,
    Reconstruction,
    Sampling,
    Sizes,
    likelihoods,
    posteriors,
    priors,
    terms,
)
from models.batch import Batch
from models.codes import prior_codes
from models.config import part_types
from models.distributions import Normal
from models.networks import Conv, Nothing
from models.terms.total_correlation import aggregate, stratified
from tests.models.parts.test_posteriors import stirred
from train import Config

KEY = jax.random.key(0)
X = jax.random.uniform(jax.random.key(1), (12, 6))
NORMAL = posteriors.NormalPosterior()


def passed(posterior=posteriors.NormalPosterior(), latent=3, x=X):
    prior = priors.CodesPrior() if getattr(posterior, "discrete", False) else priors.StandardPrior()
    cfg = Model(encoder=Dense((5,)), latent=latent, posterior=posterior, prior=prior)
    model = stirred(Autoencoder(cfg, Sizes((6,), examples=40), rngs=nnx.Rngs(0)))
    return Reconstruction()(model, x, KEY, False)[2]


def with_codes(z, q=None, batch=None):
    """A pass whose codes are given."""
    done = passed(latent=z.shape[1])
    return done._replace(z=z, q=Normal(z, jnp.zeros(z.shape)) if q is None else q, batch=batch or done.batch)


def dictionary(kind):
    """A pass of a dictionary, with gates, half of whose units have been idle for 60 steps and one for 1."""
    gates = posteriors.GatedPosterior()
    cfg = Model(
        encoder=Dense(()), latent=8, posterior=gates, decoder=Dictionary(), likelihood=likelihoods.NormalLikelihood()
    )
    model = stirred(Autoencoder(cfg, Sizes((6,), examples=40), rngs=nnx.Rngs(0)))
    model.decoder.idle[...] = jnp.asarray([0, 60, 60, 60, 60, 0, 1, 3], jnp.int32)
    return Reconstruction()(model, X, KEY, False)[2]


def network_of(term, done):
    if not hasattr(term, "build"):
        return None
    return stirred(term.build(Sizes(done.model.shape), done.z.shape[1], nnx.Rngs(3)))


# kind -> {field: another value, or (a base in which it matters, another value)}
FIELDS = {
    terms.Sparsity: {"penalty": (terms.Sparsity(), "kl"), "target": (terms.Sparsity("kl"), 0.3)},
    terms.CodeNorm: {},
    terms.Commitment: {"codebook": 1.0},
    terms.MMD: {"width": 2.0},
    terms.SlicedWasserstein: {"directions": 7},
    terms.TotalCorrelation: {"examples": 100},
    terms.DIP: {"diagonal": 1.0, "form": "II"},
    terms.Adversarial: {"on": "code", "network": Dense((3,))},
    terms.Nested: {"levels": 1},
    terms.Revive: {"units": 1, "after": 2},
    terms.Gate: {},
}


# those of the geometry of Jacobians have rows of their own: test_geometry_terms.py
KINDS = [kind for kind in part_types(Config, "terms") if ".geometry." not in kind.__module__]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_changes_the_term(kind):
    """Names every field, so a new one must be added here and must do something; `weight` multiplies in the loss."""
    assert {*FIELDS[kind], "weight"} == {f.name for f in dataclasses.fields(kind)}
    special = {
        terms.Sparsity: posteriors.PointPosterior("sigmoid"),
        terms.Commitment: posteriors.VQPosterior(5, learn="gradient"),
    }
    done = dictionary(kind) if kind in (terms.Gate, terms.Revive) else passed(special.get(kind, NORMAL))
    value = lambda term: jax.jit(lambda: term(done, network_of(term, done)))()
    for name, change in FIELDS[kind].items():
        base, other = change if isinstance(change, tuple) else (kind(), change)
        before, after = value(base), value(dataclasses.replace(base, **{name: other}))
        assert before.shape == (12,)
        assert jnp.abs(before - after).max() > 1e-6, name


def test_code_norm():
    done = passed()
    np.testing.assert_allclose(terms.CodeNorm()(done, None), 0.5 * (done.z**2).sum(1), rtol=1e-12)


def test_mmd_is_unbiased_against_a_quadrature():
    """Codes N(m, s²) in one dimension: the mean over keys is the MMD by a fine grid, in 4 standard errors."""
    mean, std = 0.7, 0.6
    grid = jnp.linspace(-9, 9, 1201)
    step = grid[1] - grid[0]
    density = lambda m, s: jnp.exp(-0.5 * ((grid - m) / s) ** 2) / (s * np.sqrt(2 * np.pi)) * step
    gap = density(mean, std) - density(0.0, 1.0)
    square = (grid[:, None] - grid[None]) ** 2
    kernel = sum(2 * s / (2 * s + square) for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))
    exact = gap @ kernel @ gap
    model = passed(latent=1).model

    @jax.jit
    @jax.vmap
    def estimate(key):
        k_code, k_term = jax.random.split(key)
        z = mean + std * jax.random.normal(k_code, (20, 1))
        return terms.MMD()(Pass(model, Batch(X), None, z, None, None, k_term, False), None)[0]

    found = estimate(jax.random.split(KEY, 4000))
    assert abs(found.mean() - exact) < 4 * found.std() / 4000**0.5
    assert exact > 20 * found.std() / 4000**0.5  # so that a missing term would show


def test_sliced_wasserstein_of_a_shifted_prior():
    """Shifting every draw of the prior by c moves every sorted projection by c·d; E (c·d)² = |c|² / latent."""
    done, shift = passed(), jnp.asarray([[1.0, -2.0, 0.5]])
    _, k_prior = jax.random.split(done.key)
    shifted = done._replace(z=prior_codes(done.model, k_prior, 12) + shift)
    found = jax.jit(lambda: terms.SlicedWasserstein(directions=20_000)(shifted, None))()
    np.testing.assert_allclose(found, (shift**2).sum() / 3, rtol=0.05)


def test_stratified_weights_sum_to_one_with_the_own_example_on_the_diagonal():
    """The stratified weights of the best-known peers stand in column 0, and a row sums to 1.248 (B = 5, N = 1000)."""
    weights = jnp.exp(stratified(5, 1000))
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(jnp.diagonal(weights), 1 / 1000, rtol=1e-12)
    np.testing.assert_allclose(jnp.exp(stratified(7, 7)), 1 / 7, rtol=1e-12)


def test_total_correlation_and_mutual_information_of_a_gaussian_at_full_batch():
    """Means correlated, deviations s: q(z) is normal with covariance C + s² I, so both are known; within 0.1 nat.

    Peers add the weights once per unit (negative values) or drop constants; here TC 0.59-like and MI are met.
    """
    n, s = 3000, 0.5
    mix = jnp.asarray([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.3, 0.2, 0.9]])
    mean = jax.random.normal(KEY, (n, 3)) @ mix.T
    q = Normal(mean, jnp.full(mean.shape, np.log(s)))
    z = q.sample(jax.random.key(1))
    done = with_codes(z, q)
    joint, units = jax.jit(lambda: aggregate(done, n))()
    covariance = mix @ mix.T + s**2 * jnp.eye(3)
    log_det = jnp.linalg.slogdet(covariance)[1]
    exact = 0.5 * (jnp.log(jnp.diagonal(covariance)).sum() - log_det)
    assert exact > 0.3
    assert abs((joint - units.sum(1)).mean() - exact) < 0.1
    found = terms.TotalCorrelation(examples=n)(done, None)
    np.testing.assert_allclose(found, joint - units.sum(1), rtol=1e-9, atol=1e-12)
    information = 0.5 * (log_det - 3 * np.log(s**2))
    assert abs((q.log_prob(z) - joint).mean() - information) < 0.1


def test_dip_is_the_distance_of_the_covariance_from_the_identity():
    done = passed()
    covariance = np.cov(done.q.mean.T, bias=True)
    apart = (covariance**2).sum() - (np.diag(covariance) ** 2).sum()
    wanted = apart + 10 * ((np.diag(covariance) - 1) ** 2).sum()
    np.testing.assert_allclose(terms.DIP()(done, None), wanted, rtol=1e-10)
    covariance = covariance + np.diag(np.exp(2 * np.asarray(done.q.log_std)).mean(0))
    wanted = apart + 10 * ((np.diag(covariance) - 1) ** 2).sum()
    np.testing.assert_allclose(terms.DIP(form="II")(done, None), wanted, rtol=1e-10)


@pytest.mark.parametrize("on", ["data", "code", "factors"])
def test_players_pull_on_their_own_parameters_only(on):
    """The loss has a gradient in the model, the critic's in the critic, and where C is 0 the critic's is 2 log 2."""
    term, done = terms.Adversarial(on=on), passed()
    net = network_of(term, done)
    graph, params = nnx.split(net)
    gradient = jax.jit(jax.grad(lambda p: term.opponent(done, nnx.merge(graph, p)).mean()))(params)
    assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(gradient["head"]))
    silent = nnx.merge(graph, jax.tree.map(jnp.zeros_like, params))
    np.testing.assert_allclose(term.opponent(done, silent), 2 * np.log(2), rtol=1e-12)
    np.testing.assert_allclose(term(done, silent), 0 if on == "factors" else np.log(2), atol=1e-12)


def test_shuffled_factors_keep_each_unit_and_break_their_ties():
    done = with_codes(jnp.arange(36.0).reshape(12, 3))
    theirs = terms.Adversarial(on="factors").theirs(done)
    np.testing.assert_array_equal(jnp.sort(theirs, axis=0), done.z)
    assert len({tuple(np.argsort(theirs[:, j]).tolist()) for j in range(3)}) == 3


def test_a_gan_needs_no_encoder_and_sees_draws_of_the_prior():
    cfg = Model(encoder=Nothing(), latent=3)
    model = Autoencoder(cfg, (6,), rngs=nnx.Rngs(0))
    loss, metrics, done = Sampling()(model, X, KEY)
    assert metrics == {}
    np.testing.assert_array_equal(loss, 0)
    term = terms.Adversarial()
    assert [v.shape for v in term.ours(done)] == [(12, 6)]
    with pytest.raises(ConfigError, match="no encoder"):
        model.encode(X)


@pytest.mark.parametrize(
    ("term", "done", "words"),
    [
        (terms.TotalCorrelation(), passed(posteriors.PointPosterior()), "posterior normal, got point"),
        (terms.TotalCorrelation(examples=5), passed(), "at least the batch"),
        (terms.DIP(form="II"), passed(posteriors.PointPosterior()), "use form I"),
        (terms.MMD(), passed(x=X[:1]), "at least 2, got 1"),
        (terms.Adversarial(network=Conv()), passed(), "images"),
        (terms.Commitment(), passed(), "posterior vq or fsq, got normal"),
    ],
)
def test_terms_that_do_not_fit_are_named(term, done, words):
    with pytest.raises(ConfigError, match=words):
        term(done, network_of(term, done))
