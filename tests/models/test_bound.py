"""Importance-weighted bounds: their values, and the gradient that each estimator is to have."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import (
    ELBO,
    Autoencoder,
    Batch,
    Bound,
    ConfigError,
    Dense,
    Model,
    SemiSupervised,
    Sizes,
    likelihoods,
    posteriors,
)
from models.objectives.bound import frozen, scale_gradient
from tests.models.parts.test_posteriors import stirred

KEY = jax.random.key(0)
X = jax.random.uniform(jax.random.key(1), (4, 6))


def build(posterior=posteriors.NormalPosterior(), **more):
    cfg = Model(encoder=Dense((5,)), latent=2, posterior=posterior, **more)
    return stirred(Autoencoder(cfg, (6,), rngs=nnx.Rngs(0)))


def terms_of(objective, model, keys):
    return jax.jit(jax.vmap(lambda k: objective(model, X, k, False)[1]))(keys)


def test_one_draw_is_the_elbo_and_more_draws_are_tighter():
    """Means over keys: k = 1 is the analytic-KL ELBO; each k is above the one before, in standard errors."""
    model, keys = build(), jax.random.split(KEY, 4000)
    elbo = terms_of(ELBO(), model, keys)["negative_elbo"]
    values = [terms_of(Bound(samples=k), model, keys)["negative_bound"] for k in (1, 5, 50)]
    error = jnp.sqrt(elbo.var(0) + values[0].var(0)) / 4000**0.5
    np.testing.assert_array_less(jnp.abs(elbo.mean(0) - values[0].mean(0)), 4 * error)
    for loose, tight in itertools.pairwise(values):
        assert (tight.mean(0) < loose.mean(0)).all()


def test_a_bound_of_many_draws_is_the_likelihood_of_a_linear_model():
    """One affine layer and normal noise: x is normal, log p(x) exact, and E exp(bound) = p(x), in 4 s.e."""
    cfg = Model(encoder=Dense(()), decoder=Dense(()), latent=2, likelihood=likelihoods.NormalLikelihood(std=0.7))
    model = stirred(Autoencoder(cfg, (6,), rngs=nnx.Rngs(0)), size=0.1)
    weights, bias = model.decoder.last.kernel[...], model.decoder.last.bias[...]
    covariance = weights.T @ weights + 0.49 * jnp.eye(6)
    exact = jax.vmap(lambda x: jax.scipy.stats.multivariate_normal.logpdf(x, bias, covariance))(X)
    ratio = jnp.exp(-terms_of(Bound(samples=500), model, jax.random.split(KEY, 200))["negative_bound"] - exact[None])
    error = ratio.std(0) / 200**0.5
    assert (error < 0.05).all()
    np.testing.assert_array_less(jnp.abs(ratio.mean(0) - 1), 4 * error)


def semisupervised(x, label, key=KEY, objective=SemiSupervised()):
    model = stirred(
        Autoencoder(Model(encoder=Dense((5,)), latent=2, labels="inferred"), Sizes((6,), classes=3), rngs=nnx.Rngs(0))
    )
    return model, objective(model, Batch(x, label), key, False)


def test_semisupervised_bound_by_the_elbo_of_each_label():
    """Known: ELBO given y, plus log C, plus alpha cross-entropy. Unknown: the mean over q(y|x), minus its entropy."""
    keys = jax.random.split(KEY, 4000)
    label = jnp.asarray([2, 0, -1, -1])
    loss = jax.jit(jax.vmap(lambda k: semisupervised(X, label, k)[1][0]))(keys)
    model = semisupervised(X, label)[0]
    each = []
    for y in range(3):
        given = Batch(X, jnp.full(4, y))
        each.append(jax.jit(jax.vmap(lambda k, g=given: ELBO()(model, g, k, False)[0]))(keys))
    each = jnp.stack(each)  # (class, key, example)
    q = jnp.exp(model.classify(X))
    known = jnp.stack([each[2, :, 0] - 10 * jnp.log(q[0, 2]), each[0, :, 1] - 10 * jnp.log(q[1, 0])], axis=1)
    rest = jnp.einsum("ycb,by->cb", each[:, :, 2:], q[2:]) + (q[2:] * jnp.log(q[2:])).sum(1)[None]
    wanted = jnp.concatenate([known, rest], axis=1) + np.log(3)
    error = jnp.sqrt((loss.var(0) + wanted.var(0)) / 4000)
    np.testing.assert_array_less(jnp.abs(loss.mean(0) - wanted.mean(0)), 4 * error)


def test_semisupervised_needs_a_classifier_and_its_weight_acts():
    label = jnp.asarray([2, 0, -1, -1])
    light, heavy = (semisupervised(X, label, objective=SemiSupervised(alpha=a))[1] for a in (1.0, 3.0))
    np.testing.assert_allclose((heavy[0] - light[0])[:2], 2 * light[1]["cross_entropy"][:2], rtol=1e-9)
    np.testing.assert_array_equal((heavy[0] - light[0])[2:], 0)
    assert light[2].z.shape == (4, 2)
    with pytest.raises(ConfigError, match="labels inferred"):
        SemiSupervised()(build(), Batch(X, label), KEY)


def gradients(objective, model, keys, part):
    """Gradients of the mean loss by the parameters of one part, flat, one row a key."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(p, key):
        return objective(nnx.merge(graph, p, rest, copy=True), X, key)[0].mean()

    one = lambda key: jnp.concatenate([jnp.ravel(g) for g in jax.tree.leaves(jax.grad(loss)(params, key)[part])])
    return jax.jit(lambda: jax.lax.map(one, keys, batch_size=100))()


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_dreg_is_unbiased_and_varies_less(part):
    """Against the plain estimator over 3,000 keys: the same mean in standard errors, less variance in the encoder."""
    model, keys = build(), jax.random.split(KEY, 3000)
    plain, dreg = (gradients(Bound(samples=4, gradient=g), model, keys, part) for g in ("plain", "dreg"))
    error = jnp.sqrt((plain - dreg).var(0) / 3000) + 1e-12
    score = jnp.abs(plain.mean(0) - dreg.mean(0)) / error
    assert (score < 5).all()
    if part == "encoder":
        assert dreg.var(0).sum() < 0.9 * plain.var(0).sum()
    else:
        np.testing.assert_allclose(dreg, plain, rtol=1e-6, atol=1e-9)  # the decoder's is the plain one, key by key


def test_stl_is_dreg_at_one_draw_and_has_no_noise_at_the_true_posterior():
    model, keys = build(), jax.random.split(KEY, 3)
    stl, dreg = (gradients(Bound(samples=1, gradient=g), model, keys, "encoder") for g in ("stl", "dreg"))
    np.testing.assert_allclose(stl, dreg, rtol=1e-9, atol=1e-12)


def test_piwae_takes_the_decoders_gradient_from_all_draws_and_the_encoders_from_groups():
    model, keys = build(), jax.random.split(KEY, 2)
    piwae = Bound(samples=3, outer=4, gradient="piwae")
    for part, same in (("encoder", Bound(samples=3, outer=4)), ("decoder", Bound(samples=12))):
        found, wanted = (gradients(o, model, keys, part) for o in (piwae, same))
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_outer_and_inner_draws_are_not_exchanged():
    """A peer normalises over the outer axis: k = 5 of 1 bound must be tighter than k = 1 of 5."""
    model, keys = build(), jax.random.split(KEY, 500)
    inner = terms_of(Bound(samples=5), model, keys)["negative_bound"].mean(0)
    outer = terms_of(Bound(samples=1, outer=5), model, keys)["negative_bound"].mean(0)
    assert (inner < outer).all()


def test_largest_weight_goes_to_the_best_draw():
    """d loss / d log w_i = -softmax: a peer gave the largest share to the worst draw."""
    z = jnp.asarray([[1.0], [2.0]])
    pulled = jax.grad(lambda v: (scale_gradient(v, jnp.asarray([[0.25], [0.75]])) ** 2).sum())(z)
    np.testing.assert_allclose(pulled, [[0.5], [3.0]])


@pytest.mark.parametrize("gradient", ["plain", "stl", "dreg", "piwae"])
def test_every_estimator_reports_the_bound_itself(gradient):
    model = build(posterior=posteriors.FullPosterior())
    loss, terms, _ = Bound(samples=3, outer=2, gradient=gradient)(model, X, KEY)
    np.testing.assert_allclose(loss, terms["negative_bound"], rtol=1e-12)
    mixed, terms, _ = Bound(samples=3, gradient=gradient, mix=0.3)(model, X, KEY)
    np.testing.assert_allclose(mixed, 0.7 * terms["negative_bound"] + 0.3 * terms["negative_elbo"], rtol=1e-12)


def test_a_point_has_no_bound():
    with pytest.raises(ConfigError, match="posterior normal"):
        Bound()(build(posteriors.PointPosterior()), X, KEY)


def test_every_field_changes_loss_or_gradient():
    changes = {"samples": 7, "outer": 2, "gradient": "dreg", "mix": 0.5}
    assert set(changes) == {f.name for f in dataclasses.fields(Bound)}
    keys, model = jax.random.split(KEY, 1), build()
    base = gradients(Bound(samples=3), model, keys, "encoder")
    for name, value in changes.items():
        other = gradients(dataclasses.replace(Bound(samples=3), **{name: value}), model, keys, "encoder")
        assert jnp.abs(other - base).max() > 1e-6, name


HELD = {
    "normal": posteriors.NormalPosterior(),
    "full": posteriors.FullPosterior(),
    "low_rank": posteriors.LowRankPosterior(1),
    "flow": posteriors.FlowPosterior(steps=1, hidden=3, context=2),
    "iaf": posteriors.FlowPosterior("iaf", steps=1, hidden=3, context=2),
    "chain": posteriors.ChainPosterior((1, 1), hidden=3, context=2),
}


@pytest.mark.parametrize("name", HELD)
def test_all_that_a_posterior_holds_is_stopped(name):
    """A bound method, or a module that `tree.map` passes over, would keep its own: STL and DReG wrong in silence."""

    def look():
        model = build(HELD[name])
        own = {id(leaf) for leaf in jax.tree.leaves(nnx.state(model.posterior_module, nnx.Param))}
        q = model.encode(X)
        leaves = jax.tree.leaves(q)
        assert all(isinstance(leaf, jax.Array) for leaf in leaves)
        assert own <= {id(leaf) for leaf in leaves}
        assert not own & {id(leaf) for leaf in jax.tree.leaves(frozen(q))}
        return q

    jax.eval_shape(look)
