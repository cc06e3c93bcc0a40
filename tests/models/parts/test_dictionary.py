"""Sparse dictionaries: columns, start and centring; transcoders; thresholds and gates; nested widths; revival."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Autoencoder, ConfigError, Dense, Dictionary, Model, Reconstruction, likelihoods, posteriors, terms
from models.batch import Batch
from models.metrics import per_example
from models.posteriors.gates import jump, opened
from tests.models.parts.test_posteriors import stirred

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (12, 6))
RELU = posteriors.PointPosterior("relu")


def built(posterior=RELU, latent=8, start=False, **decoder):
    cfg = Model(
        encoder=Dense(()),
        latent=latent,
        posterior=posterior,
        decoder=Dictionary(**decoder),
        likelihood=likelihoods.NormalLikelihood(),
    )
    model = Autoencoder(cfg, (6,), rngs=nnx.Rngs(0))
    return model if start else stirred(model)


def gradient(model, loss):
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    return jax.grad(lambda p: loss(nnx.merge(graph, p, rest, copy=True)))(params)


def test_columns_have_length_one_and_the_encoder_starts_as_them():
    model = built(start=True)
    np.testing.assert_array_equal(model.encoder.head.kernel[...], model.decoder.columns().T)
    model = built()
    np.testing.assert_allclose(jnp.linalg.norm(model.decoder.columns(), axis=1), 1, rtol=1e-12)
    moved = gradient(model, lambda m: Reconstruction()(m, X, KEY, False)[0].sum()).decoder.kernel[...]
    along = jnp.sum(moved * model.decoder.kernel[...], axis=1)
    assert jnp.abs(moved).max() > 0.1
    np.testing.assert_allclose(along, 0, atol=1e-12)  # what is thrown away by others after each step is not there
    free = built(unit_norm=False)
    np.testing.assert_array_equal(free.decoder.columns(), free.decoder.kernel[...])


def test_the_encoder_sees_what_is_left_of_the_bias():
    model = built()
    bias = jnp.broadcast_to(model.decoder.bias[...], (1, 6))
    np.testing.assert_allclose(model.numbers(bias)[0], model.encoder.head.bias[...], rtol=1e-12)
    plain = built(centred=False)
    assert jnp.abs(plain.numbers(bias)[0] - plain.encoder.head.bias[...]).max() > 0.1


def test_a_transcoder_sees_its_inputs_and_is_judged_by_the_rest():
    model, other = built(inputs=2), X.at[:, 2:].add(3.0)
    np.testing.assert_array_equal(model.encode(X).mean, model.encode(other).mean)
    mean = model.decode(model.encode(X).mean).mean
    error = jnp.square(X - mean)[:, 2:]
    loss, *_ = Reconstruction()(model, X, KEY, False)
    np.testing.assert_allclose(loss, error.sum(1), rtol=1e-12)
    np.testing.assert_allclose(per_example(model, Batch(X), KEY)["mse"], error.mean(1), rtol=1e-12)
    hidden = jnp.ones(X.shape, bool).at[:, 3].set(False)
    masked = Reconstruction()(model, Batch(X, None, hidden), KEY, False)[0]
    np.testing.assert_allclose(masked, jnp.delete(error, 1, axis=1).sum(1), rtol=1e-12)
    moved = gradient(model, lambda m: Reconstruction()(m, X, KEY, False)[0].sum()).encoder.head.kernel[...]
    assert (moved[2:] == 0).all()
    assert jnp.abs(moved[:2]).max() > 0


def test_a_share_of_the_units_is_a_narrower_dictionary():
    whole, half = built(), built(share=0.5)
    z = half.encode(X).mean
    np.testing.assert_array_equal(z[:, 4:], 0)
    np.testing.assert_array_equal(z[:, :4], whole.encode(X).mean[:, :4])
    moved = gradient(half, lambda m: Reconstruction()(m, X, KEY, False)[0].sum())
    assert (moved.decoder.kernel[...][4:] == 0).all()
    assert (moved.encoder.head.kernel[...][:, 4:] == 0).all()


def test_thresholds_have_the_gradient_of_an_expectation():
    """d/dt E[x 1(x > t)] = -t p(t) and d/dt E 1(x > t) = -p(t) for x ~ N(0, 1), on a fine grid of quantiles."""
    x = jax.scipy.stats.norm.ppf((jnp.arange(200_000) + 0.5) / 200_000)
    t, width = jnp.asarray(0.7), jnp.asarray(0.02)
    density = jax.scipy.stats.norm.pdf(t)
    for function, expected in ((jump, -t * density), (opened, -density)):
        found = jax.grad(lambda t, f=function: f(x, t, width).mean())(t)
        np.testing.assert_allclose(found, expected, rtol=2e-3)
    np.testing.assert_array_equal(jax.vmap(jax.grad(lambda x: jump(x, t, width)))(x[::1000]), x[::1000] > t)
    model = built(posteriors.JumpPosterior(0.3))
    done = Reconstruction()(model, X, KEY, False)[2]
    np.testing.assert_array_equal(terms.Sparsity("l0")(done, None), (done.z != 0).sum(1))
    wide = built(posteriors.JumpPosterior(0.3, 2.0))
    slope = lambda m: gradient(m, lambda m: Reconstruction()(m, X, KEY, False)[0].sum()).posterior_module.log_threshold
    assert jnp.abs(slope(model)[...] - slope(wide)[...]).max() > 1e-3


def test_gates_open_units_and_reconstruct_by_themselves():
    model = built(posteriors.GatedPosterior())
    done = Reconstruction()(model, X, KEY, False)[2]
    g, module = model.numbers(X), model.posterior_module
    size = jax.nn.relu(jnp.exp(module.log_scale[...])[None] * g + module.bias[...][None])
    np.testing.assert_allclose(done.z, jnp.where(g > 0, size, 0), rtol=1e-12)
    by_gates = model.decode(jax.nn.relu(g)).mean
    np.testing.assert_allclose(terms.Gate()(done, None), jnp.square(X - by_gates).sum(1), rtol=1e-12)
    np.testing.assert_allclose(terms.Sparsity()(done, None), jax.nn.relu(g).sum(1), rtol=1e-12)
    moved = gradient(model, lambda m: terms.Gate()(Reconstruction()(m, X, KEY, False)[2], None).sum())
    assert (moved.decoder.kernel[...] == 0).all()
    assert jnp.abs(moved.encoder.head.kernel[...]).max() > 0.1


def test_the_beginnings_of_a_nested_code_reconstruct():
    model = built()
    done = Reconstruction()(model, X, KEY, False)[2]
    firsts = [model.decoder.bias[...][None] + done.z[:, :n] @ model.decoder.columns()[:n] for n in (4, 2)]
    expected = sum(jnp.square(X - mean).sum(1) for mean in firsts)
    np.testing.assert_allclose(terms.Nested(levels=2)(done, None), expected, rtol=1e-12)


def test_a_dead_unit_is_counted_and_revived():
    model = built()
    model.encoder.head.bias[...] = jnp.zeros(8).at[3].set(-100.0)  # no example uses unit 3
    for _ in range(3):
        Reconstruction()(model, X, KEY, True)
    assert model.decoder.idle[...][3] == 3
    assert (jnp.delete(model.decoder.idle[...], 3) == 0).all()
    model.encoder.head.bias[...] = jnp.zeros(8)
    done = Reconstruction()(model, X, KEY, False)[2]
    size = jax.nn.relu(done.head)[:, 3:4]
    left = X - done.p.mean
    expected = jnp.square(left - size * model.decoder.columns()[3][None]).sum(1)
    np.testing.assert_allclose(terms.Revive(after=3)(done, None), expected, rtol=1e-12)
    assert (terms.Revive(after=4)(done, None) == 0).all()


def test_what_does_not_fit_is_one_line():
    with pytest.raises(ConfigError, match="one affine layer"):
        Autoencoder(Model(decoder=Dictionary(), posterior=RELU), (6,), rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match="one number each"):
        Autoencoder(Model(encoder=Dense(()), decoder=Dictionary()), (6,), rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match="below the 6 values"):
        built(inputs=6)
    done = Reconstruction()(built(), X, KEY, False)[2]
    for term, way in ((terms.Gate(), "gated"), (terms.Sparsity("l0"), "jump")):
        with pytest.raises(ConfigError, match=f"posterior {way}"):
            term(done, None)
