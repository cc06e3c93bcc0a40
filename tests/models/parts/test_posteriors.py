"""Laws of every posterior: one row a kind. Densities integrate to one, draws follow them, KL is E[log q - log p]."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

import grads
from models import ELBO, Autoencoder, ConfigError, Dense, Model, Sizes, posteriors, priors
from models.codes import draw, has_density, kl_terms
from models.config import is_config, part_types
from models.distributions.codes import von_mises_fisher as vmf
from models.distributions.codes.sphere import log_area
from models.networks.flows import stack

KEY = jax.random.key(0)
LATENT, N = 3, 20_000
X = jax.random.uniform(jax.random.key(1), (5, 6))

# kind -> configs that together reach every branch, with the prior they need
ROWS = {
    "normal": (posteriors.NormalPosterior(), priors.StandardPrior()),
    "full": (posteriors.FullPosterior(), priors.StandardPrior()),
    "low_rank": (posteriors.LowRankPosterior(rank=2), priors.StandardPrior()),
    "flow": (posteriors.FlowPosterior(hidden=7, context=3), priors.StandardPrior()),
    "iaf": (posteriors.FlowPosterior("iaf", hidden=7, context=3), priors.StandardPrior()),
    "chain": (posteriors.ChainPosterior((1, 2), hidden=7, context=4), priors.StandardPrior()),
    "chain, chain": (posteriors.ChainPosterior(hidden=7, context=4), priors.ChainPrior(hidden=7)),
    "ladder": (
        posteriors.ChainPosterior((2, 1), hidden=7, context=4, ladder=True),
        priors.ChainPrior((2, 1), hidden=7),
    ),
    "normal, chain": (posteriors.NormalPosterior(), priors.ChainPrior((1, 1, 1), hidden=7)),
    "normal, flow": (posteriors.NormalPosterior(), priors.FlowPrior(hidden=7)),
    "normal, mixture": (posteriors.NormalPosterior(), priors.MixturePrior(components=3)),
    "full, mixture": (posteriors.FullPosterior(), priors.MixturePrior(components=3)),
}
# kind -> {field: another value}: each must change what the model computes
FIELDS = {
    posteriors.PointPosterior: {
        "activation": "sigmoid",
        "active": 1,
        "among": (posteriors.PointPosterior(active=2), "batch"),
    },
    posteriors.NormalPosterior: {},
    posteriors.FullPosterior: {},
    posteriors.LowRankPosterior: {"rank": 1},
    posteriors.FlowPosterior: {"kind": "iaf", "steps": 2, "hidden": 7, "context": 3},
    posteriors.VQPosterior: {
        "entries": 3,
        "width": 2,
        "levels": 2,
        "learn": (posteriors.VQPosterior(entries=3, restart=0.9, decay=0.1), "gradient"),
        "decay": (posteriors.VQPosterior(entries=3, restart=0.9, decay=0.1), 0.5),
        "restart": (posteriors.VQPosterior(entries=3, decay=0.1), 0.9),
    },
    posteriors.FSQPosterior: {"levels": 4},
    posteriors.ChainPosterior: {
        "groups": (2, 2),
        "hidden": 7,
        "context": 5,
        "ladder": True,
    },
    posteriors.GumbelPosterior: {
        "size": 2,
        "temperature": 2.0,
        "final": (posteriors.GumbelPosterior(steps=3), 0.1),
        "steps": 3,
    },
    posteriors.VMFPosterior: {},
    posteriors.HamiltonianPosterior: {"steps": 2, "step": 0.1, "temper": 0.5},
    posteriors.JumpPosterior: {"threshold": 4.0, "bandwidth": None},  # the second moves a gradient: test_dictionary.py
    posteriors.GatedPosterior: {},
}


def stirred(module, key=jax.random.key(5), size=0.3):
    """The module with every parameter moved: zeros and symmetries of the start would hide a wrong formula."""
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    moved = [a + size * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return nnx.merge(graph, jax.tree.unflatten(tree, moved), rest, copy=True)


def build(posterior, prior=priors.StandardPrior(), latent=LATENT):
    cfg = Model(encoder=Dense((5,)), latent=latent, posterior=posterior, prior=prior)
    return stirred(Autoencoder(cfg, (6,), rngs=nnx.Rngs(0)))


def proposal(drawn, key):
    """As many draws of a normal twice as wide as these, and their log-density."""
    middle, wide = drawn.mean(0, keepdims=True), 2 * drawn.std(0, keepdims=True)
    e = jax.random.normal(key, drawn.shape)
    return middle + wide * e, jnp.sum(-0.5 * e * e - jnp.log(wide) - 0.5 * np.log(2 * np.pi), axis=1)


@pytest.mark.parametrize("row", ROWS)
def test_density_integrates_to_one_and_is_that_of_the_draws(row):
    """By importance sampling from a wide normal: ∫ q = 1, and E_q of tanh and cos as of the draws, in 4 s.e."""
    model = build(*ROWS[row])

    @jax.jit
    def estimates():
        q = model.encode(X[:1])
        drawn = jax.vmap(lambda k: q.sample(k)[0])(jax.random.split(jax.random.key(3), N))
        z, log_wide = proposal(drawn, jax.random.key(2))
        weight = jnp.exp(q.log_prob(z) - log_wide)
        weighted = weight[:, None] * jnp.concatenate([jnp.ones((N, 1)), jnp.tanh(z), jnp.cos(z)], axis=1)
        plain = jnp.concatenate([jnp.ones((N, 1)), jnp.tanh(drawn), jnp.cos(drawn)], axis=1)
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


def prior_for(posterior):
    """A prior that fits any kind."""
    if getattr(posterior, "discrete", False):
        return priors.CodesPrior()
    if isinstance(posterior, posteriors.VMFPosterior):
        return priors.SpherePrior()
    return priors.ChainPrior(getattr(posterior, "groups", ()), hidden=7)


def computed(posterior):
    """What a training pass computes with this posterior: codes, and their density where there is one."""
    graph, state = nnx.split(build(posterior, prior_for(posterior), latent=4))

    @jax.jit
    def twice():  # what moves without a gradient shows in the second pass
        model = nnx.merge(graph, state, copy=True)
        model.encode(10 * X, KEY)
        return model.encode(10 * X, KEY)

    q = twice()
    z, log_q = draw(q, KEY)
    return np.concatenate([np.ravel(z), np.ravel(log_q if has_density(q) else 0.0)])


@pytest.mark.parametrize("kind", part_types(Model, "posterior"))
def test_every_field_changes_the_codes(kind):
    """Names every field, so a new one must be added here and must do something."""
    assert set(FIELDS[kind]) == {f.name for f in dataclasses.fields(kind)}
    for name, change in FIELDS[kind].items():
        if change is None:
            continue
        base, value = change if isinstance(change, tuple) and is_config(change[0]) else (kind(), change)
        before, after = computed(base), computed(dataclasses.replace(base, **{name: value}))
        assert before.shape != after.shape or np.abs(before - after).max() > 1e-6, name


def test_active_units_of_a_point():
    """k per code in evaluation; with among="batch" k per code on average in training."""
    q = build(posteriors.PointPosterior(active=2), latent=5).encode(X)
    assert ((q.mean != 0).sum(1) == 2).all()
    model = build(posteriors.PointPosterior(active=2, among="batch"), latent=5)
    assert ((model.encode(X).mean != 0).sum(1) == 2).all()  # no threshold was learned yet
    x = jax.random.uniform(KEY, (16, 6))
    kept = (model.encode(x, KEY).mean != 0).sum(1)
    assert kept.sum() == 32
    assert len(np.unique(kept)) > 1
    np.testing.assert_array_equal((model.encode(x).mean != 0).sum(1), kept)  # the threshold of that batch


@pytest.mark.parametrize("kind", ["coupling", "iaf", "planar"])
@pytest.mark.parametrize("latent", [1, 4])
def test_log_determinants_of_flows(kind, latent):
    """Against slogdet of the Jacobian from `grads`, at 1e-9, and the inverse against the map."""
    flow = stirred(stack(kind, latent, 2, 3, 6, nnx.Rngs(0)))
    u, context = 2 * jax.random.normal(KEY, (8, latent)), jax.random.normal(jax.random.key(2), (8, 2))
    z, log_det = jax.jit(flow.forward)(u, context)
    alone = lambda v, c: flow.forward(v[None], c[None])[0][0]
    for i in range(8):
        jacobian = grads.jacobian(alone)(u[i], context[i])
        sign, wanted = np.linalg.slogdet(np.asarray(jacobian))
        assert sign > 0
        np.testing.assert_allclose(log_det[i], wanted, rtol=1e-9, atol=1e-9)
    assert jnp.abs(log_det).max() > 0.1
    if kind == "planar":
        with pytest.raises(ConfigError, match="no inverse"):
            flow.inverse(z, context)
    else:
        back, same = jax.jit(flow.inverse)(z, context)
        np.testing.assert_allclose(back, u, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(same, log_det, rtol=1e-9, atol=1e-9)


def test_a_planar_posterior_has_a_draw_with_its_density_and_depends_on_the_example():
    """A peer's flows had global parameters: here another context gives another log-determinant."""
    model = build(posteriors.FlowPosterior("planar", hidden=7, context=3))
    _, log_q = draw(model.encode(X), KEY)
    assert jnp.isfinite(log_q).all()
    q = model.encode(X)
    u = jnp.ones((5, LATENT))
    assert jnp.abs(jnp.diff(q.flow.forward(u, q.context)[1])).min() > 1e-6
    loss = jax.jit(lambda: ELBO()(model, X, KEY)[0])()
    assert jnp.isfinite(loss).all()


def quantised(latent=6, **more):
    cfg = Model(encoder=Dense((5,)), latent=latent, posterior=posteriors.VQPosterior(**more), prior=priors.CodesPrior())
    return Autoencoder(cfg, (6,), rngs=nnx.Rngs(0))


def test_quantised_codes_are_nearest_entries_and_the_decoder_sees_them():
    """A peer's decoder was given the encoder's output: ours decodes entries, with the identity as gradient."""
    model = quantised(entries=4, width=2)
    numbers = model.numbers(X)
    q, book = model.encode(X), np.asarray(model.posterior_module.book.entries()[0])
    points = np.asarray(numbers).reshape(-1, 2)
    nearest = ((points[:, None] - book[None]) ** 2).sum(2).argmin(1)
    np.testing.assert_array_equal(np.ravel(q.indices), nearest)
    np.testing.assert_allclose(q.mean, book[nearest].reshape(5, 6), rtol=1e-12)
    np.testing.assert_allclose(model.posterior_module.lookup(q.indices), q.mean, rtol=1e-12)
    np.testing.assert_allclose(q.commitment, ((points - book[nearest]) ** 2).reshape(5, -1).sum(1), rtol=1e-12)
    pull = jax.grad(lambda n: (model.posterior(n).mean * jnp.arange(30.0).reshape(5, 6)).sum())(numbers)
    np.testing.assert_array_equal(pull, jnp.arange(30.0).reshape(5, 6))


def test_bound_of_a_quantised_code_is_nll_plus_the_log_of_all_codes():
    model = quantised(entries=4, width=2, levels=2)
    _, found, done = ELBO()(model, X, KEY)
    np.testing.assert_allclose(found["kl"], 6 * np.log(4), rtol=1e-12)
    prior = model.prior()
    np.testing.assert_allclose(-prior.log_prob(done.z), 6 * np.log(4), rtol=1e-12)
    drawn = jax.vmap(lambda k: prior.sample(k)[0])(jax.random.split(KEY, 500))
    assert len(np.unique(np.round(drawn[:, :2], 9), axis=0)) == 16  # sums of an entry of each level


def test_entries_move_to_the_means_of_what_they_are_assigned_and_dead_ones_restart():
    model = quantised(entries=3, width=6, decay=0.5, restart=0.0)
    module = model.posterior_module
    points = jnp.concatenate([jnp.full((4, 6), 2.0), jnp.full((4, 6), -3.0)])
    for _ in range(60):
        module(points, model, KEY)
    book = np.sort(np.asarray(module.book.entries()[0][:, 0]))
    assert np.abs(book - 2).min() < 1e-6
    assert np.abs(book + 3).min() < 1e-6
    unused = quantised(entries=64, width=6, decay=0.5, restart=0.1).posterior_module
    for step in range(12):
        unused(points, model, jax.random.fold_in(KEY, step))
    values = np.asarray(unused.book.entries()[0][:, 0])
    assert np.minimum(np.abs(values - 2), np.abs(values + 3)).max() < 0.05
    before = nnx.state(unused)
    unused(points, model, None)  # evaluation moves nothing
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(unused))


@pytest.mark.parametrize("levels", [3, 4, 5, 8])
def test_finite_scalars_take_every_level_and_come_back_from_their_indices(levels):
    cfg = Model(encoder=Dense((5,)), latent=1, posterior=posteriors.FSQPosterior(levels), prior=priors.CodesPrior())
    model = Autoencoder(cfg, (6,), rngs=nnx.Rngs(0))
    q = model.posterior(jnp.linspace(-6, 6, 4001)[:, None])
    assert sorted(set(np.asarray(q.indices)[:, 0].tolist())) == list(range(levels))
    np.testing.assert_allclose(model.posterior_module.lookup(q.indices), q.mean, rtol=1e-12)
    pull = jax.grad(lambda n: model.posterior(n).mean.sum())(jnp.zeros((1, 1)))
    assert pull > 0.1  # the gradient of the bounded numbers, not of the rounding


@pytest.mark.parametrize(("dims", "kappa"), [(3, 0.01), (3, 5.0), (4, 40.0), (10, 1.0), (50, 300.0), (6, 2e4)])
def test_von_mises_fisher_density_entropy_and_angles(dims, kappa):
    """log Z and E cos θ against SciPy's Bessel functions; draws of cos θ against its mean; gradient against E."""
    k = jnp.asarray([kappa])
    order = dims / 2 - 1
    ratio = scipy.special.ive(order + 1, kappa) / scipy.special.ive(order, kappa)
    log_bessel = np.log(scipy.special.ive(order, kappa))
    exact = log_bessel + 0.5 * dims * np.log(2 * np.pi) - order * np.log(kappa)  # of ∫ exp(κ (μ·z - 1)) over the sphere
    np.testing.assert_allclose(vmf.log_constant(k, dims) + log_area(dims - 1), exact, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(vmf.mean_shortfall(k, dims), 1 - ratio, rtol=1e-8)
    slope = jax.grad(lambda v: vmf.log_constant(v, dims)[0])(k)
    np.testing.assert_allclose(-slope, 1 - ratio, rtol=1e-8)

    def gap(kappa, key):
        return 1 - jnp.cos(vmf.angle(key, kappa, dims)[0])

    keys = jax.random.split(KEY, 4000)
    value, pull = jax.jit(jax.vmap(jax.value_and_grad(gap), (None, 0)))(k, keys)
    assert abs(value.mean() - (1 - ratio)) < 4 * value.std() / 4000**0.5
    wanted = jax.grad(lambda v: vmf.mean_shortfall(v, dims)[0])(k)
    assert jnp.abs(pull.mean(0) - wanted)[0] < 4 * pull.std() / 4000**0.5


def test_codes_on_the_sphere():
    """Unit vectors whose density integrates to one over the sphere; KL to the uniform prior by Monte Carlo."""
    model = build(posteriors.VMFPosterior(), priors.SpherePrior(), latent=4)

    @jax.jit
    def estimates():
        q, p = model.encode(X), model.prior()
        z = jax.vmap(lambda k: p.sample(k)[0])(jax.random.split(KEY, N))
        area = jnp.exp(-p.log_prob(z))
        own = lambda m, k: vmf.VonMisesFisher(m[None], k[None]).log_prob(z)
        weights = jnp.exp(jax.vmap(own)(q.mean, q.kappa)) * area[None]
        drawn = jax.vmap(lambda k: draw(q, k))(jax.random.split(jax.random.key(2), 4000))
        zero = jnp.zeros(5)
        return weights, drawn, kl_terms(q, p, drawn[0][0], zero).sum(1), p.log_prob(drawn[0][0])

    weights, (z, log_q), kl, log_p = estimates()
    np.testing.assert_allclose((z**2).sum(-1), 1, rtol=1e-12)
    np.testing.assert_array_less(jnp.abs(weights.mean(1) - 1), 4 * weights.std(1) / N**0.5)
    monte_carlo = log_q - log_p[None]
    np.testing.assert_array_less(jnp.abs(monte_carlo.mean(0) - kl), 4 * monte_carlo.std(0) / 4000**0.5)
    rate = jax.grad(lambda n: model.posterior(n).sample(KEY)[:, 0].sum())(model.numbers(X))
    assert jnp.isfinite(rate).all()
    assert (jnp.abs(rate[:, -1]) > 0).all()  # the concentration has its gradient


def test_relaxed_choices():
    """KL to the uniform prior is log size - entropy; draws are one-hot in evaluation and tend to it as they cool."""
    model = build(posteriors.GumbelPosterior(size=3), priors.CodesPrior(), latent=6)
    q, prior = model.encode(X), model.prior()
    z, log_q = jax.vmap(lambda k: draw(q, k))(jax.random.split(KEY, 4000))
    assert set(np.unique(z)) == {0.0, 1.0}
    np.testing.assert_array_equal(z.reshape(4000, 5, 2, 3).sum(-1), 1)
    monte_carlo = log_q - prior.log_prob(z[0])[None]
    kl = kl_terms(q, prior, z[0], log_q[0]).sum(1)
    np.testing.assert_array_less(jnp.abs(monte_carlo.mean(0) - kl), 4 * monte_carlo.std(0) / 4000**0.5)
    np.testing.assert_allclose(z.mean(0), q.mean, atol=5 * 0.5 / 4000**0.5)
    soft = model.encode(X, KEY)
    assert 0.001 < soft.sample(KEY).min() < soft.sample(KEY).max() < 0.999
    cold = soft._replace(temperature=1e-3).sample(KEY)
    np.testing.assert_allclose(cold, q.sample(KEY), atol=1e-6)
    counted = build(
        posteriors.GumbelPosterior(size=3, temperature=2.0, final=0.5, steps=4), priors.CodesPrior(), latent=6
    )
    found = [float(counted.encode(X, KEY).temperature) for _ in range(7)]
    np.testing.assert_allclose(found, [2.0, 2**0.5, 1.0, 0.5**0.5, 0.5, 0.5, 0.5], rtol=1e-6)


def test_levels_of_a_posterior_say_something_of_the_example_from_the_start():
    """Where all begin alike the decoder learns to ignore them: a ladder on MNIST stayed at the nats of no code."""
    posterior, prior = posteriors.ChainPosterior((4, 4), ladder=True), priors.ChainPrior((4, 4))
    model = Autoencoder(Model(encoder=Dense((50,)), latent=8, posterior=posterior, prior=prior), (6,), rngs=nnx.Rngs(0))
    means = model.encode(10 * X).given(jnp.zeros((5, 8))).mean
    assert (means.std(0)[:4].mean() > 0.05) & (means.std(0)[4:].mean() > 0.05)


def test_a_ladder_multiplies_by_the_prior_and_needs_its_groups():
    model = build(posteriors.ChainPosterior((1, 2), ladder=True), priors.ChainPrior((1, 2)))
    numbers, above = model.numbers(X), jnp.ones((5, 1))
    module = model.posterior_module
    own, p = module.levels.level(1, above, numbers), model.prior_module.levels.level(1, above, None)
    both = module.level(1, above, (numbers, model.prior_module.levels))
    x = jax.random.normal(KEY, (5, 2))
    density = lambda d, v: d.log_prob(v)
    gap = density(both, x) - density(own, x) - density(p, x)
    other = density(both, x + 1) - density(own, x + 1) - density(p, x + 1)
    np.testing.assert_allclose(gap, other, rtol=1e-9)  # the product, up to a constant


@pytest.mark.parametrize(
    ("posterior", "words"),
    [
        (posteriors.LowRankPosterior(rank=4), "rank must be at most latent=3, got 4"),
        (posteriors.PointPosterior(active=4), "active must be at most latent=3, got 4"),
        (posteriors.VQPosterior(width=2), "width must divide latent=3, got 2"),
        (posteriors.VQPosterior(entries=4), "use prior codes"),
        (posteriors.FSQPosterior(), "use prior codes"),
        (posteriors.GumbelPosterior(size=2), "size must divide latent=3"),
        (posteriors.VMFPosterior(), "use prior sphere"),
        (posteriors.ChainPosterior((1, 3)), "groups must sum to latent=3"),
        (posteriors.ChainPosterior(ladder=True), "use prior chain"),
    ],
)
def test_impossible_posteriors_are_named(posterior, words):
    prior = (
        priors.CodesPrior()
        if getattr(posterior, "discrete", False) and "prior" not in words
        else priors.StandardPrior()
    )
    cfg = Model(encoder=Dense((5,)), latent=LATENT, posterior=posterior, prior=prior)
    with pytest.raises(ConfigError, match=words):
        Autoencoder(cfg, Sizes((6,), examples=10), rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("more", "words"),
    [({"prior": priors.VampPrior()}, "use prior mixture"), ({"labels": "given"}, "use labels none")],
)
def test_paths_of_a_joint_density_that_is_not_one_of_x_and_z_are_refused(more, words):
    cfg = Model(encoder=Dense((5,)), latent=LATENT, posterior=posteriors.HamiltonianPosterior(), **more)
    with pytest.raises(ConfigError, match=words):
        Autoencoder(cfg, Sizes((6,), classes=3), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("temper", [1.0, 0.3])
def test_leapfrog_keeps_volume_comes_back_and_its_weights_have_the_mean_one(temper):
    """|det| = 1 by `grads` (a peer's: 1.3), temper ** (d / 2) with cooling; E over draws of f / q = ∫ f = 1."""
    q = build(posteriors.HamiltonianPosterior(steps=2, step=0.3, temper=temper)).encode(X[:1])
    move = jax.jit(q.move)

    def flow(pair):
        return jnp.concatenate(q.move(pair[None, :LATENT], pair[None, LATENT:]), axis=1)[0]

    pair = jax.random.normal(KEY, (2 * LATENT,))
    sign, log_det = np.linalg.slogdet(np.asarray(grads.jacobian(flow)(pair)))
    np.testing.assert_allclose((sign, log_det), (1, 0.5 * LATENT * np.log(temper)), atol=1e-9)
    z, momentum = move(pair[None, :LATENT], pair[None, LATENT:])
    assert jnp.abs(z - pair[None, :LATENT]).max() > 0.1
    if temper == 1:
        back, again = move(z, -momentum)
        np.testing.assert_allclose(jnp.concatenate([back, -again], 1)[0], pair, rtol=1e-9, atol=1e-9)
    z, log_q = jax.jit(jax.vmap(lambda k: draw(q, k)))(jax.random.split(KEY, N))
    narrow = 0.7 * z.std(0, keepdims=True)  # of f, a normal inside q
    e = (z - z.mean(0, keepdims=True)) / narrow
    weight = jnp.exp(jnp.sum(-0.5 * e * e - jnp.log(narrow) - 0.5 * np.log(2 * np.pi), axis=2) - log_q)
    assert jnp.abs(weight.mean() - 1) < 4 * weight.std() / N**0.5
    assert weight.std() / N**0.5 < 0.05
    with pytest.raises(ConfigError, match="its own draws only"):
        q.log_prob(z[0])
