"""Patches: cut and joined without loss; what the encoder is not shown cannot matter, and costs nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Autoencoder, Batch, ConfigError, Dense, Masked, Mirror, Model, ViT, posteriors
from models.networks.sequences.vit import Patches

KEY = jax.random.key(0)
SHAPE = (5, 7, 2)  # 2 x 3 patches of 3 pixels a side, the last ones cut
CUT = Patches(SHAPE, 3)
X = jax.random.uniform(jax.random.key(1), (4, *SHAPE))
SEEN = jnp.asarray([[0, 5], [3, 1], [2, 4], [5, 0]])


@functools.cache
def built(code):
    cfg = Model(
        encoder=ViT(patch=3, width=8, layers=1, heads=2, code=code), latent=12, posterior=posteriors.PointPosterior()
    )
    return Autoencoder(cfg, SHAPE, rngs=nnx.Rngs(0))


@functools.cache
def facts(code):
    """Numbers of all and of some patches, with other pixels where nothing was shown; the objective; one program."""
    model, objective = built(code), Masked(visible=0.25)
    graph, state = nnx.split(model)
    bias = state["encoder"]["layers"][0]["into"]["bias"]
    bias[...] = bias[...].at[8:16].add(jnp.arange(8.0))
    shifted = nnx.merge(graph, state, copy=True)

    @jax.jit
    def run(x):
        seen, hidden = objective.drawn(model, len(x), jax.random.split(KEY)[0])
        q = model.encode(x)
        other = jnp.where(CUT.pixels(jnp.any(SEEN[:, :, None] == jnp.arange(6)[None, None], axis=1)), x, 7.0)
        loss, terms, done = objective(model, Batch(x), KEY, training=False)
        shuffled = jnp.broadcast_to(jnp.asarray([4, 1, 0, 5, 2, 3]), (len(x), 6))
        return {
            "all": q.mean,
            "shifted": shifted.encode(x).mean,
            "shuffled": model.numbers(x, patches=shuffled),
            "some": model.numbers(x, patches=SEEN),
            "other": model.numbers(other, patches=SEEN),
            "loss": loss,
            "terms": terms,
            "mean": model.decode(model.numbers(x, patches=seen)).mean,
            "hidden": hidden,
            "answer": objective.answer(model, Batch(x), KEY)[1:],
            "p": done.p.mean,
        }

    return run(X)


def test_patches_are_cut_and_joined_without_loss():
    assert len(CUT) == 6
    pieces = CUT.cut(X)
    assert pieces.shape == (4, 6, 18)
    np.testing.assert_array_equal(CUT.joined(pieces), X)
    np.testing.assert_array_equal(pieces[:, 4].reshape(4, 3, 3, 2)[:, :2], X[:, 3:, 3:6])
    assert CUT.pixels(jnp.ones((1, 6), bool)).sum() == 35
    assert CUT.pixels(jnp.eye(6, dtype=bool)).sum((1, 2, 3)).tolist() == [9, 9, 3, 6, 6, 2]


@pytest.mark.parametrize("code", ["image", "patches"])
def test_the_encoder_sees_what_it_is_shown_and_in_no_order(code):
    found = facts(code)
    np.testing.assert_allclose(found["shuffled"], found["all"], atol=1e-12)
    np.testing.assert_allclose(found["shifted"], found["all"], atol=1e-12)  # by a bias of the keys
    np.testing.assert_array_equal(found["other"], found["some"])
    assert jnp.abs(found["some"] - found["all"]).max() > 1e-3
    if code == "patches":
        there = (found["some"].reshape(4, 6, 2) != 0).all(2)
        np.testing.assert_array_equal(there, (np.asarray(SEEN)[:, :, None] == np.arange(6)).any(1))


@pytest.mark.parametrize("code", ["image", "patches"])
def test_masked_is_the_error_of_hidden_patches(code):
    found = facts(code)
    hidden = np.broadcast_to(found["hidden"], X.shape)
    error = np.square(X - found["mean"])
    np.testing.assert_allclose(found["terms"]["masked_squared_error"], (error * hidden).sum((1, 2, 3)), rtol=1e-12)
    expected = (error * (hidden + 0.25 * ~hidden)).sum((1, 2, 3))
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-12)
    patches = CUT.cut(jnp.asarray(hidden, float)).max(2)
    assert (patches.sum(1) == 4).all()  # 6 - round(6 / 4)
    assert len(np.unique(patches, axis=0)) > 1
    seen, mean, judged = found["answer"]
    np.testing.assert_array_equal(judged, hidden)
    np.testing.assert_array_equal(np.where(hidden, X, mean), X)
    np.testing.assert_allclose(np.where(hidden, mean, 0), np.where(hidden, found["mean"], 0), rtol=1e-12)
    assert (np.asarray(seen)[hidden] == 0.5).all()


def test_patches_that_are_not_seen_cost_nothing():
    """Products of the encoder's program, with a quarter of 64 patches: about a quarter, less in the attention."""
    cfg = Model(encoder=ViT(patch=2), latent=2, posterior=posteriors.PointPosterior())
    model = Autoencoder(cfg, (16, 16, 1), rngs=nnx.Rngs(0))
    x = jnp.zeros((8, 16, 16, 1))
    some = jnp.tile(jnp.arange(16)[None], (8, 1))
    numbers = jax.jit(lambda x, *seen: model.numbers(x, None, None, *seen))
    flops = lambda *seen: numbers.lower(x, *seen).cost_analysis()["flops"]
    assert flops(some) < 0.27 * flops()


@pytest.mark.parametrize(
    ("change", "shape", "words"),
    [
        ({"latent": 13}, SHAPE, "multiple of 6, such as 48, got 13"),
        ({}, (35,), r"vit needs images of shape \(H, W, C\)"),
        ({"decoder": Mirror(tied=True)}, SHAPE, "no transpose"),
        ({"labels": "given"}, SHAPE, "take no labels"),
        ({"posterior": posteriors.NormalPosterior()}, SHAPE, "one number a unit"),
        ({"decoder": ViT(patch=5, code="patches")}, SHAPE, "the same patches, got 3 and 5"),
    ],
)
def test_what_does_not_fit_is_refused(change, shape, words):
    base = {"encoder": ViT(patch=3, code="patches"), "latent": 12, "posterior": posteriors.PointPosterior()}
    with pytest.raises(ConfigError, match=words):
        Autoencoder(Model(**base | change), shape, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("encoder", "words"), [(Dense((4,)), "use encoder vit"), (ViT(patch=9, width=4), "2 patches at least")]
)
def test_masked_needs_patches(encoder, words):
    model = Autoencoder(Model(encoder=encoder, decoder=Dense((4,)), latent=12), SHAPE, rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match=words):
        Masked()(model, X, KEY)
