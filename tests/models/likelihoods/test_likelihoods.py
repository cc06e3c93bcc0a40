"""Likelihood configs: channels, scales (fixed, learned, optimal, per pixel), and traced floats."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import ELBO, Autoencoder, Dense, Model, Reconstruction, distributions, likelihoods
from models.config import part_types

KEY = jax.random.key(0)
X = jnp.round(jax.random.uniform(KEY, (5, 2, 3)) * 255) / 255
KINDS = part_types(Model, "likelihood")
CHANGES = {
    likelihoods.AutoLikelihood: {},
    likelihoods.BernoulliLikelihood: {},
    likelihoods.ContinuousBernoulliLikelihood: {},
    likelihoods.NormalLikelihood: {"scale": "optimal", "std": 0.5},
    likelihoods.LaplaceLikelihood: {"scale": "learned", "width": 0.5},
    likelihoods.DiscretizedLogisticLikelihood: {"scale": "learned", "width": 0.5, "levels": 17},
    likelihoods.CategoricalLikelihood: {"levels": 17},
    likelihoods.LogisticMixtureLikelihood: {"components": 2, "width": 0.5, "levels": 17},
    likelihoods.TokensLikelihood: {"symbols": 17},
    likelihoods.MultinomialLikelihood: {},
    likelihoods.ColumnsLikelihood: {"columns": ("numeric",) * 4 + ("categorical:3", "ordinal:4"), "std": 0.5},
    likelihoods.StrokesLikelihood: {"components": 2, "width": 0.5},
}

NAMING = {"grey"}  # it names metrics and changes no number: see test_names_say_what_bits_and_bounds_are_of


def build(likelihood):
    cfg = Model(encoder=Dense((4,)), latent=2, likelihood=likelihood)
    return nnx.split(Autoencoder(cfg, (2, 3), rngs=nnx.Rngs(0)), nnx.Param, ...)


def loss_and_gradient(likelihood):
    graph, params, rest = build(likelihood)

    def loss(params):
        model = nnx.merge(graph, params, rest, copy=True)
        p = model.decode(jnp.ones((5, 2)), KEY)
        return -p.log_prob(X).mean(), p.mean

    (value, mean), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return value, mean, gradient


@pytest.mark.parametrize("kind", KINDS)
def test_decoder_gives_the_distribution_and_every_field_matters(kind):
    assert set(CHANGES[kind]) == {f.name for f in dataclasses.fields(kind)} - NAMING
    value, mean, gradient = loss_and_gradient(kind())
    assert mean.shape == X.shape
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradient))
    for name, change in CHANGES[kind].items():
        other, _, other_gradient = loss_and_gradient(dataclasses.replace(kind(), **{name: change}))
        same_tree = jax.tree.structure(gradient) == jax.tree.structure(other_gradient)
        assert abs(other - value) > 1e-6 or not same_tree, name


def test_learned_scale_has_a_gradient_and_an_optimum():
    """d nll / d log_std = D - Σ (x - mean)² / std²: zero at the root mean squared error."""
    for kind in (
        likelihoods.NormalLikelihood,
        likelihoods.LaplaceLikelihood,
        likelihoods.DiscretizedLogisticLikelihood,
    ):
        _, _, gradient = loss_and_gradient(kind(scale="learned"))
        assert jnp.abs(gradient["likelihood_module"]["log_scale"][...]) > 0
    value, mean, _ = loss_and_gradient(likelihoods.NormalLikelihood())
    std = float(jnp.sqrt(jnp.mean((X - mean) ** 2)))
    _, _, gradient = loss_and_gradient(likelihoods.NormalLikelihood("learned", std=std))
    np.testing.assert_allclose(gradient["likelihood_module"]["log_scale"][...], 0, atol=1e-12)
    best, _, _ = loss_and_gradient(likelihoods.NormalLikelihood("optimal"))
    assert best < value
    np.testing.assert_allclose(best, loss_and_gradient(likelihoods.NormalLikelihood(std=std))[0], rtol=1e-12)


def test_optimal_scale_is_the_batchs_in_training_and_the_running_one_in_evaluation():
    graph, params, rest = build(likelihoods.NormalLikelihood("optimal"))
    model = nnx.merge(graph, params, rest, copy=True)
    step = jax.jit(lambda s: nnx.state(step_of(nnx.merge(graph, s, copy=True))))

    def step_of(merged):
        Reconstruction()(merged, X, KEY)
        return merged

    state = nnx.state(model)
    for _ in range(300):
        state = step(state)
    nnx.update(model, state)
    z = model.encode(X).sample(jax.random.split(KEY, 3)[0])  # the objective's own draw
    training, evaluation = model.decode(z, KEY), model.decode(z)
    assert isinstance(training, distributions.OptimalNormal)
    assert isinstance(evaluation, distributions.Normal)
    np.testing.assert_allclose(evaluation.log_prob(X), training.log_prob(X), rtol=1e-9)
    # in evaluation an example's likelihood does not depend on the others
    np.testing.assert_allclose(model.decode(z[:1]).log_prob(X[:1]), evaluation.log_prob(X)[:1], rtol=1e-12)


def test_a_traced_scale_can_be_stacked():
    """vmap over std inside a program equals each value alone: the float is a leaf, not structure."""

    def loss(likelihood):
        cfg = Model(encoder=Dense((4,)), latent=2, likelihood=likelihood)
        model = Autoencoder(cfg, (2, 3), rngs=nnx.Rngs(0))
        return ELBO()(model, X, KEY)[0]

    stacked = jax.tree.map(
        lambda *v: jnp.stack(v), likelihoods.NormalLikelihood(std=0.1), likelihoods.NormalLikelihood(std=1.0)
    )
    together = jax.jit(jax.vmap(loss))(stacked)
    alone = [jax.jit(lambda s=s: loss(likelihoods.NormalLikelihood(std=s)))() for s in (0.1, 1.0)]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-12)


def test_pixel_scales_are_the_second_channel():
    out = jax.random.normal(KEY, (2, 3, 2))
    p = likelihoods.DiscretizedLogisticLikelihood(width=0.2).distribution(out)
    np.testing.assert_array_equal(p.location, out[..., 0])
    np.testing.assert_allclose(p.log_scale, out[..., 1] + np.log(0.2), rtol=1e-6)
