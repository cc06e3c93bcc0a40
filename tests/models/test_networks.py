"""Shapes, modes and ties of encoders and decoders; every field changes what is computed."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Autoencoder, ConfigError, Conv, Dense, Mirror, Model, Sizes, likelihoods, posteriors
from models.config import with_traced
from models.networks import Nothing
from models.networks.layers import ACTIVATIONS, BatchNorm, LayerNorm, activation, dropout

KEY = jax.random.key(0)


def build(encoder, shape=(6,), decoder=Mirror(), latent=3, pixel_mean=None, **more):
    cfg = Model(encoder=encoder, decoder=decoder, latent=latent, **more)
    return Autoencoder(cfg, shape, rngs=nnx.Rngs(0), pixel_mean=pixel_mean)


def count(model):
    return sum(math.prod(p.shape) for p in jax.tree.leaves(nnx.state(model, nnx.Param)))


def dense_size(*widths):
    return sum(i * o + o for i, o in itertools.pairwise(widths))


@pytest.mark.parametrize("hidden", [(512, 256, 128, 64), (64, 32), ()])
def test_dense_sizes(hidden):
    """The number of parameters says every width: the mirrored stack and the head of 2 x latent."""
    model = build(Dense(hidden), (28, 28, 1), latent=32)
    expected = dense_size(784, *hidden, 64) + dense_size(32, *hidden[::-1], 784)
    assert count(model) == expected
    assert count(build(Dense(hidden), (784,), decoder=Mirror(tied=True), latent=32)) == (
        dense_size(784, *hidden, 64) + sum(hidden) + 784
    )


@pytest.mark.parametrize("shape", [(7, 5, 2), (8, 8, 1), (1, 9, 3)])
def test_conv_takes_any_image_and_gives_its_exact_size(shape):
    encoder = Conv((3, 4), hidden=(5,))
    x = jax.random.uniform(KEY, (2, *shape))
    for decoder in (Mirror(), Mirror(tied=True), Conv((4,), stride=3), Dense((4,))):
        model = build(encoder, shape, decoder, posterior=posteriors.PointPosterior())
        run = jax.jit(lambda v, m=model: (m.encode(v).mean, m.decode(m.encode(v).mean).mean))
        z, mean = run(x)
        assert z.shape == (2, 3)
        assert mean.shape == x.shape


@pytest.mark.parametrize("encoder", [Dense((5, 4), "identity"), Conv((3, 4), hidden=(5,), activation="identity")])
def test_tied_decoder_is_the_transpose_of_the_encoder(encoder):
    """Without biases and activations <encode(x), z> = <x, decode(z)>: the decoder is the adjoint map."""
    shape = (4, 5, 2)
    model = build(
        encoder,
        shape,
        Mirror(tied=True),
        posterior=posteriors.PointPosterior(),
        likelihood=likelihoods.NormalLikelihood(),
    )
    x, z = jax.random.normal(KEY, (1, *shape)), jax.random.normal(KEY, (1, 3))
    left, right = jax.jit(lambda: (model.encode(x).mean * z, x * model.decode(z).mean))()
    np.testing.assert_allclose(left.sum(), right.sum(), rtol=1e-12)


def test_tied_gradient_reaches_the_kernel_through_both_halves():
    model = build(Dense((4,)), decoder=Mirror(tied=True), posterior=posteriors.PointPosterior())
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    x = jax.random.uniform(KEY, (5, 6))

    def total(encode_with, decode_with):
        z = nnx.merge(graph, encode_with, rest).encode(x).mean
        return nnx.merge(graph, decode_with, rest).decode(z).mean.sum()

    both = jax.jit(jax.grad(lambda p: total(p, p)))(params)
    parts = jax.jit(jax.grad(total, (0, 1)))(params, params)
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(a, b + c, rtol=1e-12, atol=1e-14), both, *parts)
    kernel = parts[1]["encoder"]["head"]["kernel"][...]
    assert jnp.abs(kernel).max() > 0


NETWORK_CHANGES = {
    Dense: {"hidden": (4,), "activation": "tanh", "norm": "batch", "dropout": 0.5},
    Conv: {
        "channels": (2,),
        "kernel": 2,
        "stride": 1,
        "hidden": (4,),
        "activation": "tanh",
        "norm": "layer",
        "dropout": 0.5,
    },
}


@pytest.mark.parametrize("kind", [Dense, Conv])
def test_every_field_changes_the_output(kind):
    """Names every field, so a new one must be added here and must do something."""
    base = Dense((5,)) if kind is Dense else Conv((3,))
    changes = NETWORK_CHANGES[kind]
    assert set(changes) == {f.name for f in dataclasses.fields(kind)}
    x = jax.random.uniform(KEY, (4, 4, 4, 1))

    def output(cfg):
        graph, state = nnx.split(build(cfg, (4, 4, 1)))

        @jax.jit
        def run(state, v):
            model = nnx.merge(graph, state, copy=True)
            return model.decode(model.encode(v, KEY).mean, KEY).mean

        return run(state, x)

    reference = output(base)
    np.testing.assert_array_equal(reference, output(base))
    for name, value in changes.items():
        changed = output(dataclasses.replace(base, **{name: value}))
        assert jnp.abs(changed - reference).max() > 1e-6, name


MODEL_CHANGES = {
    "encoder": Dense((4,)),
    "decoder": Mirror(tied=True),
    "latent": 2,
    "posterior": posteriors.NormalPosterior(),
    "likelihood": likelihoods.NormalLikelihood(),
    "labels": "given",
    "marks": "on",
}


def test_every_field_of_the_model_changes_the_output():
    assert {*MODEL_CHANGES, "prior"} == {f.name for f in dataclasses.fields(Model)}  # priors: see test_priors
    x, base = jax.random.uniform(KEY, (4, 6)), Model(encoder=Dense((5,)), posterior=posteriors.PointPosterior())

    def output(cfg):
        model, label = Autoencoder(cfg, Sizes((6,), classes=3), rngs=nnx.Rngs(0)), jnp.arange(4) % 3
        return jax.jit(lambda v: model.decode(model.encode(v, None, label).sample(KEY), None, label).mean)(x)

    reference = output(base)
    for name, value in MODEL_CHANGES.items():
        assert jnp.abs(output(dataclasses.replace(base, **{name: value})) - reference).max() > 1e-6, name


def test_the_key_is_the_mode():
    """With a key: dropout (another for another key) and updated batch statistics; without: neither."""
    model = build(Dense((5,), norm="batch", dropout=0.5))
    x = jax.random.uniform(KEY, (8, 6))
    graph, state = nnx.split(model)

    @jax.jit
    def run(state, key):
        merged = nnx.merge(graph, state, copy=True)
        return merged.encode(x, key).mean, nnx.state(merged)

    first, after = run(state, KEY)
    second, _ = run(state, jax.random.key(1))
    quiet, untouched = run(state, None)
    assert jnp.abs(first - second).max() > 0
    jax.tree.map(np.testing.assert_array_equal, untouched, state)
    statistics = lambda s: s["encoder"]["hidden"][0]["norm"]["mean"][...]
    assert jnp.abs(statistics(after) - statistics(state)).max() > 0
    np.testing.assert_array_equal(quiet, run(state, None)[0])
    params = nnx.split(model, nnx.Param, ...)[1]
    assert "mean" not in params["encoder"]["hidden"][0]["norm"]


def test_batch_norm_normalises_and_its_running_statistics_converge():
    norm, x = BatchNorm(3), 2 + 3 * jax.random.normal(KEY, (50, 2, 3))
    for _ in range(200):
        y = norm(x, training=True)
    np.testing.assert_allclose(y.mean((0, 1)), 0, atol=1e-12)
    np.testing.assert_allclose(y.std((0, 1)), 1, atol=1e-5)
    np.testing.assert_allclose(norm(x, training=False), y, atol=1e-7)


def test_running_statistics_keep_the_share_of_their_momentum():
    norm, x = BatchNorm(3, momentum=0.9), 2 + 3 * jax.random.normal(KEY, (50, 3))
    norm(x, training=True)
    np.testing.assert_allclose(norm.mean[...], 0.1 * x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * x.var(0), rtol=1e-12)


def test_layer_norm_is_per_example():
    x = 2 + 3 * jax.random.normal(KEY, (4, 7))
    y = LayerNorm(7)(x, training=True)
    np.testing.assert_allclose(y.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(1), 1, atol=1e-4)


def test_dropout_keeps_the_mean_and_the_rate():
    y = dropout(jnp.ones((100, 200)), 0.3, KEY)
    assert abs(float((y == 0).mean()) - 0.3) < 5 * np.sqrt(0.21 / 20_000)
    np.testing.assert_allclose(y.max(), 1 / 0.7)


def test_activations_by_name():
    v = jnp.linspace(-3, 3, 5)[None]
    assert len({tuple(np.round(f(v)[0], 6).tolist()) for f in ACTIVATIONS.values()}) == len(ACTIVATIONS)
    with pytest.raises(ConfigError, match="relu"):
        activation("rleu")


def test_pixel_mean_is_the_first_reconstruction():
    """The output bias alone (decoder kernels zero) gives about the pixel mean, for every likelihood."""
    mean = jnp.asarray([0.02, 0.2, 0.5, 0.7, 0.9, 0.3])
    for likelihood in (getattr(likelihoods, f"{name}Likelihood")() for name in LIKELIHOODS):
        model = build(Dense(()), likelihood=likelihood, pixel_mean=mean)
        p = model.likelihood_module(model.decoder.last.bias[...].reshape(1, 6, -1), None)
        start = getattr(p, "location", p.mean)  # a discretised logistic starts with its location there
        np.testing.assert_allclose(start[0], mean, atol=0.03, err_msg=str(likelihood))
    image = jnp.stack([jnp.full((4, 4), 0.1), jnp.full((4, 4), 0.8)], axis=-1)
    model = build(Conv((3,)), (4, 4, 2), pixel_mean=image)
    np.testing.assert_allclose(jax.nn.sigmoid(model.decoder.last.bias[...]), [0.1, 0.8], rtol=1e-12)


LIKELIHOODS = ("Bernoulli", "ContinuousBernoulli", "Normal", "Laplace", "DiscretizedLogistic", "Categorical")
TIED = Mirror(tied=True)


@pytest.mark.parametrize(
    ("cfg", "shape", "words"),
    [
        (Model(latent=0), (6,), "latent must be >= 1, got 0"),
        (Model(encoder=Dense((4, 0))), (6,), "encoder.hidden must be >= 1"),
        (Model(encoder=Dense(activation="gleu")), (6,), "gelu"),
        (Model(encoder=with_traced(Dense(), norm="bach")), (6,), "encoder.norm"),
        (Model(encoder=Dense(dropout=1.0)), (6,), "encoder.dropout must be < 1"),
        (Model(encoder=Conv()), (64,), "use Dense"),
        (Model(encoder=Conv(channels=())), (4, 4, 1), "at least one convolution"),
        (with_traced(Model(), posterior="gaussian"), (6,), "posterior"),
        (Model(posterior=posteriors.PointPosterior("sigmiod")), (6,), "sigmoid"),
        (Model(posterior=posteriors.PointPosterior(active=21)), (6,), "at most latent=20, got 21"),
        (Model(encoder=Nothing(), decoder=TIED), (6,), "tied=False"),
        (Model(labels="given"), (6,), "data with labels"),
        (Model(decoder=TIED, likelihood=likelihoods.CategoricalLikelihood()), (6,), "tied=False"),
        (Model(), (4, 0, 1), "at least 1"),
        (Model(likelihood=likelihoods.NormalLikelihood(std=0.0)), (6,), "likelihood.std must be > 0"),
    ],
)
def test_impossible_models_are_named(cfg, shape, words):
    with pytest.raises(ConfigError, match=words):
        Autoencoder(cfg, shape, rngs=nnx.Rngs(0))


def test_wrong_example_shape_is_named():
    with pytest.raises(ValueError, match=r"\(6,\), got \(5,\)"):
        build(Dense(())).encode(jnp.zeros((2, 5)))
