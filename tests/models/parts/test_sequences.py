"""Sequences: the density of what is drawn, causal, blind to padding; recurrent networks and transformers alike."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from grads import jacobian
from models import ELBO, Autoencoder, Batch, ConfigError, Model, Recurrent, Sizes, Transformer, likelihoods
from models.metrics import per_example, summarize
from models.networks import Conv, Dense, Mirror
from models.networks.sequences.cells import Cells

SYMBOLS, STEPS = 3, 4
KEY = jax.random.key(0)
NETWORKS = {
    "gru": Recurrent(cell="gru", width=5, embedding=3, layers=2),
    "lstm": Recurrent(cell="lstm", width=4, embedding=3),
    "transformer": Transformer(width=4, heads=2, layers=1),
}
HEAT = {"gru": (), "lstm": (0.5, 2), "transformer": ()}  # temperature and top-k of the free runs


@functools.cache
def built(name):
    """A model with weights large enough that the context matters, and its split for compiled functions."""
    cfg = Model(encoder=NETWORKS[name], latent=2, likelihood=likelihoods.TokensLikelihood(SYMBOLS))
    model = Autoencoder(cfg, (STEPS,), rngs=nnx.Rngs(1))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    params = jax.tree.map(lambda a: 2.5 * a + 0.1, params)
    return graph, params, rest, nnx.merge(graph, params, rest, copy=True)


def texts():
    """Every text: symbols, the first 0 ends it and zeros follow."""
    every = np.array(list(itertools.product(range(SYMBOLS), repeat=STEPS)))
    padded = np.array([all(b == 0 for a, b in itertools.pairwise(row) if a == 0) for row in every])
    return jnp.asarray(every[padded], float)


def end(text):
    """How many symbols of a text count."""
    return list(text).index(0) + 1 if 0 in text else STEPS


@functools.cache
def facts(name):
    """All that needs the model, in one program: densities, free runs and the answers to padding."""
    graph, params, rest, _ = built(name)
    x = texts()
    n = 4000

    def of(params, x):
        model = nnx.merge(graph, params, rest, copy=True)
        z = jnp.asarray([[0.7, -1.2]])
        one = lambda times: model.decode(jnp.broadcast_to(z, (times, 2)))
        garbage = jnp.where(one(len(x)).observed(x), x, 2)
        loss = lambda params, v: ELBO()(nnx.merge(graph, params, rest, copy=True), Batch(v), KEY)[0].sum()

        def of_texts(v):
            found = (model.encode(v).mean, one(len(x)).log_prob(v), per_example(model, Batch(v), KEY))
            return found, jax.grad(loss)(params, v)

        both, gradients = jax.vmap(of_texts)(jnp.stack([x, garbage]))
        return {
            "both": both,
            "gradients": gradients,
            "row": jax.lax.map(lambda v: (model.encode(v[None]).mean[0], one(1).log_prob(v[None])[0]), x),
            "drawn": one(n).sample(KEY, *HEAT[name]),
            "greedy": one(1).mean,
            "given": one(len(x)).given(x),
        }

    return jax.tree.map(np.asarray, jax.jit(of)(params, x))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_density_sums_to_one_over_all_texts(name):
    np.testing.assert_allclose(np.exp(facts(name)["both"][1][0]).sum(), 1, rtol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_frequencies_of_free_runs_are_the_density(name):
    """Each text's count lies within five deviations of its expectation; a cold run's is a product of its own."""
    found, x = facts(name), np.asarray(texts(), int)
    p = np.exp(found["both"][1][0])
    if HEAT[name]:
        temperature, top_k = HEAT[name]
        least = np.sort(found["given"])[..., -top_k, None]
        weight = np.where(found["given"] >= least, np.exp(found["given"] / temperature), 0)
        each = np.take_along_axis(weight / weight.sum(2, keepdims=True), x[..., None], axis=2)[..., 0]
        p = np.array([row[: end(t)].prod() for row, t in zip(each, x, strict=True)])
        np.testing.assert_allclose(p.sum(), 1, rtol=1e-9)
    drawn, n = found["drawn"], len(found["drawn"])
    counts = (drawn[:, None] == x[None]).all(2).sum(0)
    assert counts.sum() == n  # nothing but texts is drawn
    assert (np.abs(counts - n * p) <= 5 * np.sqrt(n * p * (1 - p)) + 1e-9).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_mean_is_the_greedy_text(name):
    found, x = facts(name), np.asarray(texts(), int)
    at = int((x == found["greedy"][0].astype(int)).all(1).argmax())
    np.testing.assert_array_equal(found["given"][at].argmax(1)[: end(x[at])], x[at][: end(x[at])])


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_has_no_effect_and_a_row_is_the_run_alone(name):
    found = facts(name)
    for clean, garbage in jax.tree.leaves((found["both"], found["gradients"])):
        np.testing.assert_array_equal(clean, garbage)
    for a, b in zip(found["row"], found["both"], strict=False):
        np.testing.assert_allclose(a, b[0], rtol=1e-9, atol=1e-12)
    x, clean = np.asarray(texts(), int), {name: both[0] for name, both in found["both"][2].items()}
    symbols = clean["symbols"]
    np.testing.assert_array_equal(symbols, [end(t) for t in x])
    sums = {k: v.sum() for k, v in clean.items()}
    expected = np.exp(sums["negative_elbo_nats"] / symbols.sum())
    np.testing.assert_allclose(summarize(sums, len(x))["perplexity"], expected, rtol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_does_not_see_itself_or_later_ones(name):
    """The Jacobian of the logits by the vectors of the symbols before each step is zero above the diagonal."""
    *_, model = built(name)
    z, ids = jnp.ones((1, 2)), jnp.asarray([[1, 2, 1, 2]])
    width, before = model.decoder.entry.table.shape[1], model.decoder.before(ids, None)
    logits = lambda flat: model.decoder.from_vectors(z, flat.reshape(1, STEPS, width))[0].reshape(-1)
    j = jacobian(logits)(model.decoder.entry.look_up(before).reshape(-1))
    blocks = np.abs(np.asarray(j)).reshape(STEPS, SYMBOLS, STEPS, width).max((1, 3))
    np.testing.assert_array_equal(np.triu(blocks, 1), 0)  # vector t is of the symbol before step t
    assert (np.tril(blocks)[np.tril_indices(STEPS)] > 1e-6).all()
    np.testing.assert_array_equal(before, [[0, 1, 2, 1]])


@pytest.mark.parametrize("layers", [0, 1])
def test_a_transformer_goes_on_from_its_stream_behind_any_layer(layers):
    """Its own stream in its own place changes nothing; another one is all that the logits depend on."""
    writer, rng = built("transformer")[3].decoder, np.random.default_rng(0)
    z, before = (jnp.asarray(rng.normal(size=shape)) for shape in ((2, 2), (2, STEPS, 4)))
    h = writer.stream(z, before, layers)
    np.testing.assert_allclose(writer.from_stream(h, layers), writer.from_vectors(z, before), rtol=1e-12)
    assert float(jnp.abs(writer.from_stream(0 * h, layers) - writer.from_vectors(z, before)).max()) > 0.01


def test_dropped_words_leave_only_the_code():
    cfg = Model(
        encoder=Recurrent(width=4, embedding=3, drop_words=1.0), latent=2, likelihood=likelihoods.TokensLikelihood(4)
    )
    model = Autoencoder(cfg, (STEPS,), rngs=nnx.Rngs(0))
    x, z = jnp.asarray([[2.0, 3, 2, 3], [3, 3, 2, 2]]), jnp.ones((2, 2))
    blind = model.decode(z, KEY).given(x)
    np.testing.assert_array_equal(blind[0], blind[1])
    assert np.abs(np.diff(model.decode(z).given(x), axis=0)).max() > 1e-6  # in evaluation nothing is dropped


def test_what_does_not_fit_is_refused_in_one_line():
    gru, normal = Recurrent(width=2), likelihoods.NormalLikelihood()
    build = lambda **more: Autoencoder(Model(latent=2, **more), Sizes((STEPS, 2)), rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match="use likelihood tokens or strokes, or decoder dense"):
        build(encoder=Transformer(width=4, heads=2), likelihood=normal)
    with pytest.raises(ConfigError, match="tied=False"):
        build(encoder=gru, decoder=Mirror(tied=True), likelihood=normal)
    with pytest.raises(ConfigError, match="heads must divide"):
        build(encoder=Transformer(width=5, heads=2))
    for encoder in (gru, Transformer(width=4, heads=2, layers=1)):  # numbers are read, their first axis as steps
        series = build(encoder=encoder, decoder=Dense((3,)), likelihood=normal)
        assert series.encode(jnp.ones((3, STEPS, 2))).mean.shape == (3, 2)


def test_a_series_is_convolved_over_its_steps_and_decoded_to_its_shape():
    """An encoder's first layer is numpy's correlation of every column; both directions reach every step and column."""
    cfg = Model(
        encoder=Conv((3,), kernel=3, stride=2, activation="tanh"), latent=2, likelihood=likelihoods.NormalLikelihood()
    )
    model = Autoencoder(cfg, (5, 2), rngs=nnx.Rngs(0))
    x = jax.random.normal(KEY, (1, 5, 2))
    layer = model.encoder.convolutions[0].layer
    kernel, padded = np.asarray(layer.kernel[...])[:, 0], np.pad(np.asarray(x[0]), ((1, 1), (0, 0)))
    direct = [np.einsum("tc,tcf->f", padded[s : s + 3], kernel) for s in (0, 2, 4)]
    np.testing.assert_allclose(layer(x[:, :, None])[0, :, 0], direct, rtol=1e-9, atol=1e-12)
    j = jacobian(lambda z: model.decode(z[None]).mean[0])(jnp.ones(2))
    assert j.shape == (5, 2, 2)
    assert (np.abs(j).max(2) > 0).all()


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_numbers_of_every_step_come_from_the_states_that_a_code_runs_through(name):
    """The scan is its cells one after another; without likelihood tokens a code alone decides every step."""
    cfg = Model(encoder=NETWORKS[name], latent=2, likelihood=likelihoods.NormalLikelihood())
    model = Autoencoder(cfg, (3, 2), rngs=nnx.Rngs(0))
    net, z = model.decoder, jnp.asarray([[0.5, -1.0]])
    state, code = net.cells.started(net.first(z)), net.code(z)
    for t in range(3):
        state, h = net.cells.step(state, code, code)
        np.testing.assert_allclose(model.decode(z).mean[0, t], net.out(h)[0], rtol=1e-9)
    assert np.abs(np.diff(model.decode(z).mean[0], axis=0)).max() > 1e-6
    assert model.encode(jnp.ones((1, 3, 2))).mean.shape == (1, 2)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_run_and_its_derivatives_are_those_of_its_steps(kind):
    """Values, gradients and their tangents: the rule that is written out, and its own; padding keeps states."""
    graph, params = nnx.split(Cells(kind, 3, 3, 1, rngs=nnx.Rngs(0)))
    gates = params["recur"][0].shape[1]
    draw = lambda i, *shape: jax.random.normal(jax.random.fold_in(KEY, i), shape)
    entered, state = draw(0, 3, 2, gates), draw(1, 2, 3)
    inside = jnp.array([[True, True], [True, False], [True, True]])[..., None]

    def of(stepped, values):
        params, entered, first = values
        cells = nnx.merge(graph, params, copy=True)
        start = (tuple(first * (1 + i) for i in range(cells.states)),)
        if not stepped:
            last, h = cells.run(start, entered, inside=inside)
        else:
            last, h = start, []
            for t in range(3):
                new, _ = cells.step(last, entered[t])
                last = jax.tree.map(lambda a, b, t=t: jnp.where(inside[t], a, b), new, last)
                h.append(last[-1][0])
            h = jnp.stack(h)
        return jnp.sum(jnp.sin(2 * h)) + sum(jnp.sum(jnp.cos(a)) for a in jax.tree.leaves(last))

    values = (params, entered, state)
    both = [
        jax.jit(lambda v, t, f=functools.partial(of, stepped): (f(v), jax.jvp(jax.grad(f), (v,), (t,))))(
            values, jax.tree.map(lambda a: jnp.cos(3 * a), values)
        )
        for stepped in (False, True)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), *both)
