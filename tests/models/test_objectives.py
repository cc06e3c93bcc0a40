"""Every objective against its formula from independent pieces; every field changes a number."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import ELBO, Autoencoder, ConfigError, Denoising, Dense, Model, Reconstruction, likelihoods, posteriors
from models.distributions import Bernoulli
from models.objectives import ramp, run
from models.objectives.corruption import corrupt
from models.terms import Sparsity

KEY = jax.random.key(0)
NORMAL, SIGMOID = posteriors.NormalPosterior(), posteriors.PointPosterior("sigmoid")
X = jax.random.uniform(jax.random.key(1), (7, 6))


def build(posterior=posteriors.PointPosterior(), likelihood=likelihoods.BernoulliLikelihood(), **more):
    cfg = Model(encoder=Dense((4,), **more), latent=3, posterior=posterior, likelihood=likelihood)
    return Autoencoder(cfg, (6,), rngs=nnx.Rngs(0))


def value(objective, model, key=KEY, training=False):
    """(loss, terms), compiled; the objective is an argument, so its floats are traced."""
    graph, state = nnx.split(model)
    call = jax.jit(lambda o, s: o(nnx.merge(graph, s, copy=True), X, key, training)[:2])
    return call(objective, state)


def term_of(term, model, key=KEY):
    """A term of the plain reconstruction's pass, compiled; its floats are traced."""
    graph, state = nnx.split(model)
    call = jax.jit(lambda t, s: t(Reconstruction()(nnx.merge(graph, s, copy=True), X, key, False)[2], None))
    return call(term, state)


FORMULAS = {
    "squared": lambda x, m: (x - m) ** 2,
    "cross_entropy": lambda x, m: -x * jnp.log(m) - (1 - x) * jnp.log1p(-m),
    "nll": lambda x, m: -x * jnp.log(m) - (1 - x) * jnp.log1p(-m),
}


@pytest.mark.parametrize("error", FORMULAS)
def test_reconstruction_is_a_sum_over_the_example(error):
    model = build()
    mean = jax.jit(lambda: model.decode(model.encode(X).mean).mean)()
    loss, terms = value(Reconstruction(error), model)
    np.testing.assert_allclose(loss, FORMULAS[error](X, mean).sum(1), rtol=1e-12)
    assert len(terms) == 1
    np.testing.assert_array_equal(next(iter(terms.values())), loss)


def test_denoising_compares_with_the_clean_example():
    model, objective = build(), Denoising("mask", level=0.5)
    for_noise, for_model = jax.random.split(KEY)
    noisy = corrupt("mask", X, for_noise, 0.5)
    assert (noisy != X).any()
    p = jax.jit(lambda: run(model, X, for_model, False, seen=noisy).p.mean)()
    loss, _ = value(objective, model)
    np.testing.assert_allclose(loss, ((X - p) ** 2).sum(1), rtol=1e-12)
    clean, _ = value(Denoising("mask", level=0.0), model)
    np.testing.assert_allclose(clean, value(Reconstruction(), model)[0], rtol=1e-12)


def test_corruptions_have_their_level():
    x, n = jnp.full((200, 100), 0.5), 20_000
    noise = corrupt("gaussian", x, KEY, 0.3) - x
    assert abs(float(noise.std()) - 0.3) < 5 * 0.3 / np.sqrt(2 * n)
    assert abs(float(noise.mean())) < 5 * 0.3 / np.sqrt(n)
    within = lambda share, truth: abs(float(share.mean()) - truth) < 5 * np.sqrt(truth * (1 - truth) / n)
    assert within(corrupt("mask", x, KEY, 0.3) == 0, 0.3)
    flipped = corrupt("salt_and_pepper", x, KEY, 0.3)
    assert within(flipped == 0, 0.15)
    assert within(flipped == 1, 0.15)
    assert within(flipped == 0.5, 0.7)
    with pytest.raises(ConfigError, match="gaussian"):
        corrupt("gausian", x, KEY, 0.3)


def test_sparse_penalties():
    model = build(SIGMOID)
    code = jax.jit(lambda: model.encode(X).mean)()
    np.testing.assert_allclose(term_of(Sparsity("l1"), model), jnp.abs(code).sum(1), rtol=1e-12)
    wanted, active = Bernoulli(jnp.full((1, 3), np.log(0.2 / 0.8))), code.mean(0)[None]
    divergence = wanted.kl(Bernoulli(jnp.log(active / (1 - active))))
    found = term_of(Sparsity("kl", target=0.2), model)
    np.testing.assert_allclose(found, jnp.broadcast_to(divergence, (7,)), rtol=1e-12)


def test_elbo_is_a_lower_bound_by_jensen():
    """E over z of p(x|z) p(z) / q(z|x) is p(x): one-draw bounds must average below log of their mean."""
    model = build(NORMAL)
    keys = jax.random.split(KEY, 4000)
    bounds = jax.jit(jax.vmap(lambda k: ELBO()(model, X, k, False)[1]["negative_elbo"]))(keys)

    def importance(key):  # log p(x|z) + log p(z) - log q(z|x) from the densities, not from the objective
        q = model.encode(X)
        z = q.sample(key)
        return model.decode(z).log_prob(X) + model.prior().log_prob(z) - q.log_prob(z)

    weights = jax.jit(jax.vmap(importance))(keys)
    error = jnp.sqrt(bounds.var(0) + weights.var(0)) / np.sqrt(4000)
    assert (jnp.abs(bounds.mean(0) + weights.mean(0)) < 5 * error).all()  # the same bound, estimated apart
    log_p = jax.nn.logsumexp(weights, axis=0) - np.log(4000)
    assert (-bounds.mean(0) < log_p).all()


@pytest.mark.parametrize("posterior", [NORMAL, posteriors.FlowPosterior(steps=1, hidden=4)])
def test_elbo_terms_and_weights(posterior):
    """The bound is no less a bound where the KL is that of a draw, below 0 for some."""
    model = build(posterior)
    loss, terms = value(ELBO(), model)
    assert (terms["kl"] < 0).any() == (posterior is not NORMAL)
    np.testing.assert_allclose(terms["negative_elbo"], terms["nll"] + terms["kl"], rtol=1e-13)
    np.testing.assert_allclose(loss, terms["negative_elbo"], rtol=1e-13)
    loss, _ = value(ELBO(beta=4.0, capacity=2.0), model)
    np.testing.assert_allclose(loss, terms["nll"] + 4 * jnp.abs(terms["kl"] - 2), rtol=1e-12)


def test_free_bits_are_the_maximum_of_the_batch_means():
    """The batch mean is Σ max(λ, mean KL_j), and the gradient of the dimensions below λ is zero."""
    kl = jnp.asarray([[0.1, 1.0, 3.0], [0.3, 0.2, 5.0]])
    free = ELBO(free_bits=0.5).free
    np.testing.assert_allclose(free(kl).mean(), 0.5 + 0.6 + 4.0, rtol=1e-13)
    np.testing.assert_allclose(jax.grad(lambda v: free(v).mean())(kl), [[0, 0.5, 0.5]] * 2, rtol=1e-13)
    for draws in (kl, -kl):  # what is no closed form may be negative on average
        np.testing.assert_allclose(ELBO().free(draws), draws.sum(1), rtol=1e-13)


def test_schedules_at_traced_steps():
    objective = ELBO(beta=2.0, warmup_steps=10, capacity=5.0, capacity_steps=20)
    at = jax.jit(lambda s: (objective.at(s).beta, objective.at(s).capacity))
    for step, beta, capacity in ((0, 0, 0), (5, 1, 1.25), (10, 2, 2.5), (400, 2, 5)):
        np.testing.assert_allclose(at(jnp.asarray(step)), (beta, capacity), rtol=1e-6)
    assert jax.tree.structure(objective.at(3)) == jax.tree.structure(objective.at(7))
    assert ramp(3, 0) == 1
    assert all(o().at(3) == o() for o in (Reconstruction, Denoising))


# for each field: a base objective in which it matters, and another value of it
CHANGES = {
    Reconstruction: {"error": (Reconstruction(), "nll")},
    Denoising: {
        "corruption": (Denoising(), "mask"),
        "level": (Denoising(), 0.5),
        "error": (Denoising(), "cross_entropy"),
    },
    ELBO: {
        "beta": (ELBO(), 2.0),
        "warmup_steps": (ELBO(), 10),
        "free_bits": (ELBO(), 3.0),
        "capacity": (ELBO(), 2.0),
        "capacity_steps": (ELBO(capacity=2.0), 10),
        "refine_steps": (ELBO(), 2),
        "refine_rate": (ELBO(refine_steps=1), 0.1),
        "hide": (ELBO(), "mask"),
        "hide_share": (ELBO(hide="mask"), 0.9),
    },
}


@pytest.mark.parametrize("kind", CHANGES)
def test_every_field_changes_the_loss(kind):
    """Names every field, so a new one must be added here and must do something."""
    assert set(CHANGES[kind]) == {f.name for f in dataclasses.fields(kind)}
    model = build(NORMAL) if kind is ELBO else build(SIGMOID)
    for name, (base, other) in CHANGES[kind].items():
        changed = dataclasses.replace(base, **{name: other})
        before, after = (value(o.at(3), model, training=True)[0] for o in (base, changed))
        assert abs(before.mean() - after.mean()) > 1e-6, name


def test_training_switches_dropout_only_by_its_key():
    """Evaluation of a point model is free of the key; training with dropout is not; sampling is apart."""
    dropped = build(dropout=0.5)
    losses = [value(Reconstruction(), dropped, jax.random.key(k), training=False)[0] for k in (0, 1)]
    np.testing.assert_array_equal(*losses)
    losses = [value(Reconstruction(), dropped, jax.random.key(k), training=True)[0] for k in (0, 1)]
    assert jnp.abs(losses[0] - losses[1]).max() > 0
    sampled = build(NORMAL)
    losses = [value(ELBO(), sampled, jax.random.key(k), training=False)[0] for k in (0, 1)]
    assert jnp.abs(losses[0] - losses[1]).max() > 0


def test_gradients_are_finite_at_extreme_weights():
    """Kernels times 1e4: logits in the tens of thousands, loss and gradient finite."""
    graph, params = nnx.split(build(likelihood=likelihoods.BernoulliLikelihood()))
    params = jax.tree.map(lambda p: 1e4 * p, params)
    loss = lambda p: Reconstruction("nll")(nnx.merge(graph, p, copy=True), X, KEY)[0].mean()
    found, gradient = jax.jit(jax.value_and_grad(loss))(params)
    assert np.isfinite(found)
    assert found > 1e3
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    ("objective", "model", "words"),
    [
        (ELBO(), {}, "posterior with a density, got a point"),
        (Reconstruction("cross_entropy"), {"likelihood": likelihoods.NormalLikelihood()}, "error='nll'"),
        (ELBO(hide="block"), {"likelihood": likelihoods.TokensLikelihood(4)}, "use the decoder's drop_words"),
        (Denoising("mask", error="nll"), {"likelihood": likelihoods.TokensLikelihood(4)}, "use unknown"),
    ],
)
def test_objectives_that_do_not_fit_the_model_are_named(objective, model, words):
    with pytest.raises(ConfigError, match=words):
        objective(build(**model), X, KEY)


def test_kl_sparsity_needs_codes_between_0_and_1():
    with pytest.raises(ConfigError, match="activation sigmoid"):
        term_of(Sparsity("kl"), build())


def test_a_block_is_a_square_of_its_share_anywhere_inside():
    x = jnp.ones((200, 10, 14, 2))
    gone = np.asarray(corrupt("block", x, KEY, 0.16) == 0)  # 4 pixels a side
    assert (gone.sum((1, 2, 3)) == 4 * 4 * 2).all()
    rows, columns = gone.any((2, 3)), gone.any((1, 3))
    assert (rows.sum(1) == 4).all()
    assert (columns.sum(1) == 4).all()
    assert set(rows.argmax(1)) == set(range(7))
    assert set(columns.argmax(1)) == set(range(11))
    assert (np.diff(np.flatnonzero(columns[0])) == 1).all()
    assert (corrupt("block", x, KEY, 0.0) == x).all()
    with pytest.raises(ConfigError, match="block needs images"):
        corrupt("block", x.reshape(200, -1), KEY, 0.2)
