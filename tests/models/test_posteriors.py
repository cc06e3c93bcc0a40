"""Laws of every posterior: one row a kind. Densities integrate to one, draws follow them, KL is E[log q - log p]."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Autoencoder, ConfigError, Dense, Model, posteriors, priors
from models.codes import draw, has_density, kl_terms
from models.config import part_types

KEY = jax.random.key(0)
LATENT, N = 3, 20_000
X = jax.random.uniform(jax.random.key(1), (5, 6))

# kind -> configs that together reach every branch, with the prior they need
ROWS = {
    "normal": (posteriors.Normal(), priors.Standard()),
    "full": (posteriors.Full(), priors.Standard()),
    "low_rank": (posteriors.LowRank(rank=2), priors.Standard()),
    "normal, mixture": (posteriors.Normal(), priors.Mixture(components=3)),
    "full, mixture": (posteriors.Full(), priors.Mixture(components=3)),
}
# kind -> {field: another value}: each must change what the model computes
FIELDS = {
    posteriors.Point: {"activation": "sigmoid", "active": 1, "among": (posteriors.Point(active=2), "batch")},
    posteriors.Normal: {},
    posteriors.Full: {},
    posteriors.LowRank: {"rank": 1},
}


def stirred(module, key=jax.random.key(5), size=0.3):
    """The module with every parameter moved: zeros and symmetries of the start would hide a wrong formula."""
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    moved = [a + size * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return nnx.merge(graph, jax.tree.unflatten(tree, moved), rest, copy=True)


def build(posterior, prior=priors.Standard(), latent=LATENT):
    cfg = Model(encoder=Dense((5,)), latent=latent, posterior=posterior, prior=prior)
    return stirred(Autoencoder(cfg, (6,), rngs=nnx.Rngs(0)))


def proposal(q, count, key):
    """Draws of a wide normal about q's middle, and their log-density."""
    z = q.mean[:1] + 2.5 * jax.random.normal(key, (count, q.mean.shape[1]))
    e = (z - q.mean[:1]) / 2.5
    return z, jnp.sum(-0.5 * e * e - np.log(2.5) - 0.5 * np.log(2 * np.pi), axis=1)


def one(q):
    """The first example's posterior, a batch of one."""
    return jax.tree.map(lambda a: a[:1], q)


@pytest.mark.parametrize("row", ROWS)
def test_density_integrates_to_one_and_is_that_of_the_draws(row):
    """By importance sampling from a wide normal: ∫ q = 1, and E_q of z and z² are those of the draws, in 4 s.e."""
    model = build(*ROWS[row])

    @jax.jit
    def estimates():
        q = one(model.encode(X))
        z, log_wide = proposal(q, N, jax.random.key(2))
        weight = jnp.exp(q.log_prob(z) - log_wide)
        weighted = weight[:, None] * jnp.concatenate([jnp.ones((N, 1)), z, z * z], axis=1)
        drawn = jax.vmap(lambda k: q.sample(k)[0])(jax.random.split(jax.random.key(3), N))
        plain = jnp.concatenate([jnp.ones((N, 1)), drawn, drawn * drawn], axis=1)
        return [(v.mean(0), v.std(0) / N**0.5) for v in (weighted, plain)]

    (found, error), (wanted, other) = estimates()
    assert error[0] < 0.05  # the proposal covers q
    np.testing.assert_array_less(jnp.abs(found - wanted), 4 * jnp.sqrt(error**2 + other**2) + 1e-12)


@pytest.mark.parametrize("row", ROWS)
def test_a_draw_comes_with_its_density(row):
    q = build(*ROWS[row]).encode(X)
    z, log_q = jax.jit(draw)(q, KEY)
    np.testing.assert_allclose(log_q, jax.jit(lambda: q.log_prob(z))(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("row", ROWS)
def test_kl_is_the_mean_of_log_q_minus_log_p(row):
    model = build(*ROWS[row])

    @jax.jit
    @jax.vmap
    def both(key):
        q, p = model.encode(X), model.prior()
        z, log_q = draw(q, key)
        return kl_terms(q, p, z, log_q).sum(1), log_q - p.log_prob(z)

    ours, plain = both(jax.random.split(KEY, 4000))
    gap = ours - plain
    np.testing.assert_array_less(jnp.abs(gap.mean(0)), 4 * gap.std(0) / 4000**0.5 + 1e-9)
    assert (ours.mean(0) > 0).all()


def computed(posterior, key=KEY):
    """What a training pass computes with this posterior: codes, and their density where there is one."""
    model = build(posterior, latent=4)
    q = jax.jit(lambda: model.encode(X, key))()
    z, log_q = draw(q, KEY)
    return np.concatenate([np.ravel(z), np.ravel(log_q if has_density(q) else 0.0)])


@pytest.mark.parametrize("kind", part_types(Model, "posterior"))
def test_every_field_changes_the_codes(kind):
    """Names every field, so a new one must be added here and must do something."""
    assert set(FIELDS[kind]) == {f.name for f in dataclasses.fields(kind)}
    for name, change in FIELDS[kind].items():
        base, value = change if isinstance(change, tuple) else (kind(), change)
        before, after = computed(base), computed(dataclasses.replace(base, **{name: value}))
        assert before.shape != after.shape or np.abs(before - after).max() > 1e-6, name


def test_active_units_of_a_point():
    """k per code in evaluation; with among="batch" k per code on average in training."""
    q = build(posteriors.Point(active=2), latent=5).encode(X)
    assert ((q.mean != 0).sum(1) == 2).all()
    model = build(posteriors.Point(active=2, among="batch"), latent=5)
    x = jax.random.uniform(KEY, (16, 6))
    kept = (model.encode(x, KEY).mean != 0).sum(1)
    assert kept.sum() == 32
    assert len(np.unique(kept)) > 1
    assert ((model.encode(x).mean != 0).sum(1) == 2).all()


@pytest.mark.parametrize(
    ("posterior", "words"),
    [
        (posteriors.LowRank(rank=4), "rank must be at most latent=3, got 4"),
        (posteriors.Point(active=4), "active must be at most latent=3, got 4"),
    ],
)
def test_impossible_posteriors_are_named(posterior, words):
    with pytest.raises(ConfigError, match=words):
        build(posterior)
