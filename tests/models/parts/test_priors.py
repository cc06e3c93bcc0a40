"""Laws of every prior: one row a kind. Its density integrates to one and is that of what it draws."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Autoencoder, ConfigError, Dense, Model, Sizes, likelihoods, posteriors, priors
from models.codes import prior_codes
from models.config import is_config, part_types

from .test_posteriors import stirred

KEY = jax.random.key(0)
LATENT, N = 3, 20_000
SIZES = Sizes((6,), classes=3, examples=50)

# name -> (prior, model fields it needs); each has a density over all of R^latent
ROWS = {
    "standard": (priors.StandardPrior(), {}),
    "mixture": (priors.MixturePrior(components=4), {}),
    "vamp": (priors.VampPrior(inputs=5), {}),
    "vamp of full normals": (priors.VampPrior(inputs=5), {"posterior": posteriors.FullPosterior()}),
    "vamp of flows": (priors.VampPrior(inputs=3), {"posterior": posteriors.FlowPosterior(steps=2, hidden=7)}),
    "flow": (priors.FlowPrior(hidden=7), {}),
    "iaf": (priors.FlowPrior("iaf", hidden=7), {}),
    "chain": (priors.ChainPrior(hidden=7), {}),
    "labelled": (priors.LabelledPrior(), {}),
}
FIELDS = {
    priors.StandardPrior: {},
    priors.MixturePrior: {"components": 3, "spread": 2.0, "covariance": "full"},
    priors.VampPrior: {"inputs": 7},
    priors.LabelledPrior: {"spread": 2.0},
    priors.FlowPrior: {"kind": "iaf", "steps": 2, "hidden": 7, "base": "free"},
    priors.CodesPrior: {},
    priors.SpherePrior: {},
    priors.ChainPrior: {"groups": (2, 1), "hidden": 7},
    priors.DeeperPrior: {"units": 2, "hidden": 7},
    priors.AutoregressivePrior: {"hidden": 7, "embedding": 3},
}


def build(prior, **more):
    cfg = Model(encoder=Dense((5,)), latent=LATENT, prior=prior, **more)
    return stirred(Autoencoder(cfg, SIZES, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("row", ROWS)
def test_density_integrates_to_one_and_is_that_of_the_draws(row):
    """By importance sampling from a wide normal: ∫ p = 1, and E_p of tanh and cos as of the draws, in 4 s.e."""
    prior, more = ROWS[row]
    model, label = build(prior, **more), jnp.ones(1, int)

    @jax.jit
    def estimates():
        p = model.prior(label, KEY)
        z = 3 * jax.random.normal(jax.random.key(2), (N, LATENT))
        log_wide = jnp.sum(-0.5 * (z / 3) ** 2 - np.log(3) - 0.5 * np.log(2 * np.pi), axis=1)
        weight = jnp.exp(p.log_prob(z) - log_wide)[:, None]
        weighted = weight * jnp.concatenate([jnp.ones((N, 1)), jnp.tanh(z), jnp.cos(z)], axis=1)
        drawn = jax.vmap(lambda k: p.sample(k)[0])(jax.random.split(jax.random.key(3), N))
        plain = jnp.concatenate([jnp.ones((N, 1)), jnp.tanh(drawn), jnp.cos(drawn)], axis=1)
        return [(v.mean(0), v.std(0) / N**0.5) for v in (weighted, plain)]

    (found, error), (wanted, other) = estimates()
    assert error[0] < 0.05
    np.testing.assert_array_less(jnp.abs(found - wanted), 4 * jnp.sqrt(error**2 + other**2) + 1e-12)


@pytest.mark.parametrize("kind", part_types(Model, "prior"))
def test_every_field_changes_the_prior(kind):
    """Names every field, so a new one must be added here and must do something."""
    assert set(FIELDS[kind]) == {f.name for f in dataclasses.fields(kind)}
    z = jax.random.normal(KEY, (4, LATENT))

    fsq = posteriors.FSQPosterior()
    fitting = {priors.CodesPrior: fsq, priors.AutoregressivePrior: fsq, priors.SpherePrior: posteriors.VMFPosterior()}

    def density(prior):
        model = build(prior, posterior=fitting.get(kind, posteriors.NormalPosterior()))
        return jax.jit(lambda: model.prior(jnp.arange(4) % 3, KEY).log_prob(z))()

    for name, change in FIELDS[kind].items():
        base, value = change if isinstance(change, tuple) and is_config(change[0]) else (kind(), change)
        assert jnp.abs(density(base) - density(dataclasses.replace(base, **{name: value}))).max() > 1e-6, name


def test_labelled_prior_is_one_per_class_and_standard_where_unknown():
    model = build(priors.LabelledPrior())
    p = model.prior(jnp.asarray([0, 2, -1]))
    np.testing.assert_array_equal(p.mean[:2], model.prior_module.mean[...][jnp.asarray([0, 2])])
    np.testing.assert_array_equal(p.mean[2], 0)
    np.testing.assert_array_equal(p.log_std[2], 0)
    with pytest.raises(ValueError, match="label"):
        model.prior()
    assert prior_codes(model, KEY, 3, jnp.asarray([0, 2, -1])).shape == (3, LATENT)


def test_vamp_is_the_same_in_training_and_evaluation_under_batch_norm():
    cfg = Model(encoder=Dense((5,), norm="batch"), latent=LATENT, prior=priors.VampPrior(inputs=5))
    model = Autoencoder(cfg, (6,), rngs=nnx.Rngs(0))
    before = nnx.state(model, nnx.BatchStat)
    z = jax.random.normal(KEY, (4, LATENT))
    np.testing.assert_array_equal(model.prior(None, KEY).log_prob(z), model.prior().log_prob(z))
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model, nnx.BatchStat))


def test_a_deeper_prior_is_a_lower_bound_that_many_draws_close():
    """Mean over keys of exp(bound) is p(z), which integrates to one; a draw of it has that density's moments."""
    model = build(priors.DeeperPrior(units=2, hidden=7))
    n = 4000

    @jax.jit
    def estimates():
        z = 3 * jax.random.normal(jax.random.key(2), (n, LATENT))
        log_wide = jnp.sum(-0.5 * (z / 3) ** 2 - np.log(3) - 0.5 * np.log(2 * np.pi), axis=1)
        bounds = jax.vmap(lambda k: model.prior(None, k).log_prob(z))(jax.random.split(KEY, 200))
        weights = jnp.exp(jax.nn.logsumexp(bounds, axis=0) - np.log(200) - log_wide)
        drawn = jax.vmap(lambda k: model.prior().sample(k)[0])(jax.random.split(jax.random.key(3), n))
        return weights, bounds, weights[:, None] * z * z, drawn * drawn

    weights, bounds, weighted, plain = estimates()
    assert abs(weights.mean() - 1) < 4 * weights.std() / n**0.5
    error = jnp.sqrt(weighted.var(0) + plain.var(0)) / n**0.5
    np.testing.assert_array_less(jnp.abs(weighted.mean(0) - plain.mean(0)), 4 * error)
    assert (bounds.mean(0) <= jax.nn.logsumexp(bounds, axis=0) - np.log(200) + 1e-9).all()


@pytest.mark.parametrize(
    ("prior", "more", "sizes", "words"),
    [
        (priors.VampPrior(), {"labels": "given"}, SIZES, "labels none"),
        (priors.VampPrior(), {"likelihood": likelihoods.TokensLikelihood(symbols=5)}, SIZES, "have no gradient"),
        (priors.LabelledPrior(), {}, Sizes((6,)), "data with labels"),
        (priors.CodesPrior(), {}, SIZES, "use posterior vq"),
        (priors.SpherePrior(), {}, SIZES, "use posterior vmf"),
        (priors.ChainPrior((1, 1)), {}, SIZES, "groups must sum to latent=20"),
    ],
)
def test_impossible_priors_are_named(prior, more, sizes, words):
    with pytest.raises(ConfigError, match=words):
        Autoencoder(Model(encoder=Dense((5,)), prior=prior, **more), sizes, rngs=nnx.Rngs(0))


def test_vamp_needs_a_posterior_with_a_density():
    with pytest.raises(ConfigError, match="posterior normal"):
        build(priors.VampPrior(), posterior=posteriors.PointPosterior()).prior()


@pytest.mark.parametrize(
    "posterior",
    [posteriors.FSQPosterior(3), posteriors.VQPosterior(entries=3, width=1), posteriors.GumbelPosterior(size=3)],
)
def test_probabilities_of_codes_in_turn_sum_to_one_and_are_those_of_the_draws(posterior):
    """All 3³ codes (3 of one place of Gumbel's): Σ P = 1, and draws have these frequencies within 4 s.e."""
    model = build(priors.AutoregressivePrior(hidden=5, embedding=3), posterior=posterior)
    book = model.posterior_module
    every = jnp.stack(jnp.meshgrid(*[jnp.arange(3)] * book.places, indexing="ij"), -1).reshape(-1, book.places)
    codes = book.lookup(every)
    prior = model.prior()
    p = jnp.exp(jax.jit(prior.log_prob)(codes))
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-9)
    assert book.places == 1 or p.std() > 0.003
    n = 4000
    drawn = jax.jit(jax.vmap(lambda k: prior.sample(k)[0]))(jax.random.split(KEY, n))
    counts = (jnp.abs(drawn[:, None] - codes[None]).max(2) < 1e-9).astype(float).mean(0)
    np.testing.assert_allclose(counts.sum(), 1)
    np.testing.assert_array_less(jnp.abs(counts - p), 4 * jnp.sqrt(p / n) + 1e-9)
    with pytest.raises(ConfigError, match="levels 1"):
        build(priors.AutoregressivePrior(), posterior=posteriors.VQPosterior(entries=3, width=1, levels=2))


@pytest.fixture(scope="module")
def codes():
    """Codes on a bent line, far from standard normal."""
    t, e = jax.random.normal(jax.random.key(8), (2, 600))
    return jnp.stack([40 + 10 * t, 3 * t * t + e, -2 + 0.1 * t + 0.05 * jnp.roll(e, 1)], axis=1)


@pytest.mark.parametrize("how", ["mixture", "kernel", "flow", "vae"])
def test_a_fitted_prior_is_near_its_codes_and_stands_in_the_models_place(how, codes):
    """Held-out codes are likelier than under a normal of their moments; draws have these; its config rebuilds it."""
    model = build(priors.StandardPrior())
    cfg, module = priors.fit_prior(how, model, codes[:500], KEY, components=5, steps=400)
    fitted = priors.with_prior_module(model, module)
    density = jax.jit(lambda z: fitted.prior(None, KEY).log_prob(z))
    mean, deviation = codes[:500].mean(0, keepdims=True), codes[:500].std(0, keepdims=True)
    normal = jnp.sum(-0.5 * jnp.square((codes - mean) / deviation) - jnp.log(deviation), 1) - 1.5 * np.log(2 * np.pi)
    assert density(codes)[500:].mean() > normal[500:].mean() + 0.1
    drawn = prior_codes(fitted, KEY, 2000)
    np.testing.assert_array_less(jnp.abs(drawn.mean(0) - mean[0]), 0.25 * deviation[0])
    np.testing.assert_allclose(drawn.std(0), deviation[0], rtol=0.35)
    again = build(cfg)
    graph = jax.tree.map(lambda a: (a.shape, str(a.dtype)), nnx.state(again.prior_module))
    assert graph == jax.tree.map(lambda a: (a.shape, str(a.dtype)), nnx.state(module))
    np.testing.assert_array_equal(model.prior().mean, 0)  # the first model keeps its own


@pytest.mark.parametrize(
    ("how", "count", "words"),
    [
        ("mixture", 19, "5 normals in 3 dimensions needs at least 20 examples, got 19"),
        ("kernel", 3, "a kernel density in 3 dimensions needs at least 4 examples, got 3"),
        ("flow", 29, "a flow in 3 dimensions needs at least 30 examples, got 29"),
        ("vae", 29, "a second VAE in 3 dimensions needs at least 30 examples, got 29"),
        ("spline", 100, "a fitted prior is mixture, kernel, flow, vae; got 'spline'"),
    ],
)
def test_too_few_codes_are_refused(how, count, words, codes):
    with pytest.raises(ConfigError, match=words) as error:
        priors.fit_prior(how, build(priors.StandardPrior()), codes[:count], KEY, components=5)
    assert "\n" not in str(error.value)
