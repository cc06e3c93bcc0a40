"""Terms on Jacobians: value and gradient against dense jacrev in float64, known truths, invariances, refusals."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Autoencoder, ConfigError, Dense, Model, Reconstruction, Sizes, likelihoods, posteriors, terms
from models.batch import Batch
from models.networks import Nothing
from models.terms import geometry
from models.terms.geometry.contractive import layered
from models.terms.geometry.halves import of_pass, signs
from models.terms.geometry.isometric import between
from models.terms.geometry.volume import half_log_det

KEY = jax.random.key(0)
X = jax.random.uniform(jax.random.key(1), (4, 6))
POINT = posteriors.PointPosterior("tanh")
DEEP = Model(Dense((5,), "tanh"), latent=3, posterior=POINT, likelihood=likelihoods.NormalLikelihood())
SHALLOW = dataclasses.replace(DEEP, encoder=Dense(()), posterior=posteriors.PointPosterior("sigmoid"))
LINEAR = dataclasses.replace(DEEP, encoder=Dense(()), posterior=posteriors.PointPosterior())


def made(cfg=DEEP, sizes=Sizes((6,))):
    """A model whose biases are not zero."""
    model = Autoencoder(cfg, sizes, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    leaves = [a + 0.3 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return nnx.merge(graph, jax.tree.unflatten(tree, leaves), rest)


def passed(model, x=X, training=False):
    return Reconstruction()(model, x, KEY, training)[2]


def dense(done, half, at=None):
    """J of every example by jacrev of the model's own calls: no code of the terms."""
    model, label = done.model, done.batch.label
    f = lambda x: model.encode(x[None], None, label).mean[0]
    g = lambda z: model.decode(z[None], None, label).mean[0]
    fun = {"encoder": f, "decoder": g, "reconstruction": lambda x: g(f(x))}[half]
    return jax.vmap(jax.jacrev(fun))(at if at is not None else done.z if half == "decoder" else done.batch.x)


def square(j):
    return jnp.sum(j * j, (1, 2))


def second_order(done, half="encoder"):
    """CAE+H with the noise that the term draws."""
    _, k_noise = jax.random.split(done.key)
    keys = jax.random.split(k_noise, 2)
    x = done.z if half == "decoder" else done.batch.x
    moved = [x + 0.1 * jax.random.normal(k, x.shape) for k in keys]
    j = dense(done, half)
    return square(j) + 0.1 * sum(square(j - dense(done, half, m)) for m in moved) / 2


def metric(done):
    half, _ = between(done, 0.2, "")
    j = dense(done, "decoder", half.at)
    return jnp.swapaxes(j, 1, 2) @ j


def distortion(done):
    g = metric(done)
    return jnp.broadcast_to(jnp.mean(square(g)) / jnp.mean(jnp.trace(g, axis1=1, axis2=2)) ** 2, (4,))


def flat(done):
    g = metric(done)
    return square(g - jnp.mean(jnp.trace(g, axis1=1, axis2=2)) / 3 * jnp.eye(3)[None])


def products(done, cosine):
    j = dense(done, "decoder")
    if cosine:
        j = j / jnp.linalg.norm(j, axis=1, keepdims=True)
    g = jnp.swapaxes(j, 1, 2) @ j
    return square(g) - jnp.sum(jnp.diagonal(g, axis1=1, axis2=2) ** 2, 1)


def log_det(a):
    return jnp.linalg.slogdet(a)[1]


def contrast(done):
    j = dense(done, "decoder")
    return jnp.sum(jnp.log(jnp.linalg.norm(j, axis=1)), 1) - 0.5 * log_det(jnp.swapaxes(j, 1, 2) @ j)


def volume(done, half):
    j = dense(done, half)
    return 0.5 * log_det(jnp.swapaxes(j, 1, 2) @ j if half == "decoder" else j @ jnp.swapaxes(j, 1, 2))


def implicit(done, form, beta=0.5):
    j = dense(done, "decoder") * jnp.exp(-done.p.log_std.reshape(-1)[0])
    g = jnp.swapaxes(j, 1, 2) @ j / beta
    norm = 0.5 * jnp.sum(done.z**2, 1)
    if form == "full":
        return norm + 0.5 * log_det(jnp.eye(3)[None] + g)
    return norm + 0.5 * jnp.sum(jnp.log(1 + jnp.diagonal(g, axis1=1, axis2=2)), 1)


def largest(done):
    return jnp.linalg.svd(dense(done, "decoder"), compute_uv=False)[:, 0] ** 2


ROWS = {
    "one layer": (SHALLOW, terms.Contractive(), lambda d: square(dense(d, "encoder"))),
    "one layer, CAE+H": (SHALLOW, terms.Contractive(corruptions=2), second_order),
    "deep": (DEEP, terms.Contractive(), lambda d: square(dense(d, "encoder"))),
    "deep, CAE+H": (DEEP, terms.Contractive(corruptions=2), second_order),
    "decoder": (DEEP, terms.Contractive(of="decoder"), lambda d: square(dense(d, "decoder"))),
    "score": (DEEP, terms.Contractive(of="reconstruction"), lambda d: square(dense(d, "reconstruction"))),
    "isometric": (DEEP, terms.Isometric(way="exact"), distortion),
    "flat": (DEEP, terms.FlatMetric(), flat),
    "products": (DEEP, terms.Orthogonal(form="product"), lambda d: products(d, False)),
    "cosines": (DEEP, terms.Orthogonal(), lambda d: products(d, True)),
    "contrast": (DEEP, terms.Orthogonal(form="contrast"), contrast),
    "volume": (DEEP, terms.LogVolume(), lambda d: volume(d, "decoder")),
    "encoder's volume": (DEEP, terms.LogVolume(of="encoder"), lambda d: volume(d, "encoder")),
    "diagonal": (DEEP, terms.Implicit(0.5), lambda d: implicit(d, "diagonal")),
    "full": (DEEP, terms.Implicit(0.5, "full"), lambda d: implicit(d, "full")),
    "sparse": (DEEP, terms.SparseJacobian(of="encoder"), lambda d: jnp.abs(dense(d, "encoder")).sum((1, 2))),
    "spectral": (DEEP, terms.Spectral(steps=40), largest),
}


def value_and_gradient(fun, model):
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def mean(params):
        values = fun(passed(nnx.merge(graph, params, rest)))
        return jnp.mean(values), values

    return jax.jit(jax.grad(mean, has_aux=True))(params)


@pytest.mark.parametrize("name", ROWS)
def test_value_and_gradient_are_those_of_the_dense_jacobian(name):
    cfg, term, formula = ROWS[name]
    model = made(cfg)
    rtol = 1e-4 if name == "spectral" else 1e-9
    slope, value = value_and_gradient(lambda done: term(done, None), model)
    wanted_slope, wanted = value_and_gradient(formula, model)
    np.testing.assert_allclose(value, wanted, rtol=rtol)
    largest = max(jnp.abs(b).max() for b in jax.tree.leaves(wanted_slope))
    assert largest > 1e-6
    for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(wanted_slope), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=100 * rtol * largest)


def hessian(done):
    h = jax.vmap(jax.hessian(lambda z: done.model.decode(z[None]).mean[0]))(done.z)
    return 2 * jnp.sum(jnp.square(h * (1 - jnp.eye(3))[None, None]), (1, 2, 3))


UNBIASED = {
    "contractive": (terms.Contractive(way="probe"), lambda d: square(dense(d, "encoder"))),
    "decoder": (terms.Contractive(way="probe", of="decoder"), lambda d: square(dense(d, "decoder"))),
    "sparse": (terms.SparseJacobian(way="probe"), lambda d: jnp.abs(dense(d, "decoder")).sum((1, 2))),
    "hessian": (terms.HessianPenalty(over="sum"), hessian),
}


@pytest.mark.parametrize("name", UNBIASED)
def test_probes_are_unbiased(name):
    """The mean over 4000 keys is the exact value, in 4 standard errors, which are below a twentieth of it."""
    term, formula = UNBIASED[name]
    done = passed(made())
    draw = jax.jit(jax.vmap(lambda key: term(done._replace(key=key), None)))
    found, wanted = draw(jax.random.split(KEY, 4000)), formula(done)
    error = found.std(0) / 4000**0.5
    assert (error < wanted / 20).all()
    assert (jnp.abs(found.mean(0) - wanted) < 4 * error).all()


def test_probe_terms_with_their_own_vectors():
    """isometric, flat_metric and the second-order part take one v: the dense J and that v give the same numbers."""
    done = passed(made())
    half, key = between(done, 0.2, "")
    j, v = dense(done, "decoder", half.at), signs(key, half.at)
    pushed = jnp.einsum("bij,bj->bi", j, v)
    pulled = jnp.einsum("bij,bi->bj", j, pushed)
    once, twice = (pushed**2).sum(1), (pulled**2).sum(1)
    np.testing.assert_allclose(terms.Isometric(way="probe")(done, None), twice.mean() / once.mean() ** 2, rtol=1e-10)
    wanted = ((pulled - once.mean() / 3 * v) ** 2).sum(1)
    np.testing.assert_allclose(terms.FlatMetric(way="probe")(done, None), wanted, rtol=1e-10)
    k_probe, k_noise = jax.random.split(done.key)
    x, v = done.batch.x, signs(k_probe, X)
    (k_noise,) = jax.random.split(k_noise, 1)
    j = dense(done, "encoder")
    apart = j - dense(done, "encoder", x + 0.1 * jax.random.normal(k_noise, x.shape))
    squares = [jnp.sum(jnp.einsum("bij,bj->bi", a, v) ** 2, 1) for a in (j, apart)]
    found = terms.Contractive(way="probe", corruptions=1)(done, None)
    np.testing.assert_allclose(found, squares[0] + 0.1 * squares[1], rtol=1e-10)


LABELLED = dataclasses.replace(DEEP, labels="given")
PROBED = {
    "two layers": (dataclasses.replace(DEEP, encoder=Dense((5, 4), "tanh")), None, None),
    "dropout": (dataclasses.replace(DEEP, encoder=Dense((5,), "tanh", dropout=0.5)), None, None),
    "label, mask": (LABELLED, jnp.asarray([0, 2, 1, 1]), jax.random.bernoulli(jax.random.key(9), 0.6, X.shape)),
}


@pytest.mark.parametrize("name", PROBED)
def test_a_probe_in_training_has_the_gradient_of_the_evaluated_encoder(name):
    """|J v|² and its gradient, where the slopes are those of the pass's own values and where they are not."""
    cfg, label, mask = PROBED[name]
    graph, params, rest = nnx.split(made(cfg, Sizes((6,), 3)), nnx.Param, ...)
    seen = X if mask is None else jnp.where(mask, X, 0)

    def term(params):
        model = nnx.merge(graph, params, rest)
        return terms.Contractive(way="probe")(passed(model, Batch(X, label, mask), training=True), None).sum()

    def wanted(params):
        model = nnx.merge(graph, params, rest)
        one = lambda x, y: model.encode(x[None], None, jax.tree.map(lambda a: a[None], y)).mean[0]
        v = signs(jax.random.split(training_key)[0], X) * (1 if mask is None else mask)
        return jnp.sum(jnp.einsum("bij,bj->bi", jax.vmap(jax.jacrev(one))(seen, label), v) ** 2)

    training_key = passed(nnx.merge(graph, params, rest), Batch(X, label, mask), training=True).key
    for found, right in zip(*(jax.tree.leaves(jax.value_and_grad(f)(params)) for f in (term, wanted)), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-9, atol=1e-12)


def linear(kernel):
    """A linear decoder z -> z @ kernel, and its pseudo-inverse as encoder."""
    model = made(LINEAR)
    model.decoder.last.kernel[...] = jnp.asarray(kernel)
    model.encoder.head.kernel[...] = jnp.linalg.pinv(jnp.asarray(kernel))
    return passed(model)


ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 3)))[0].T  # orthonormal rows


def test_linear_models_have_known_answers():
    """Isometries, orthogonal columns and singular values 2, 1, ½ by construction."""
    call = lambda term, kernel: np.asarray(term(linear(kernel), None))
    scaled = np.diag([2.0, 1.0, 0.5]) @ ROTATION
    for way in ("exact", "probe"):
        np.testing.assert_allclose(call(terms.Isometric(way=way), 3 * ROTATION), 1 / 3, rtol=1e-10)
        np.testing.assert_allclose(call(terms.FlatMetric(way=way), 3 * ROTATION), 0, atol=1e-18)
    np.testing.assert_allclose(call(terms.Isometric(way="unit"), ROTATION), 0, atol=1e-18)
    assert call(terms.Isometric(way="unit"), 3 * ROTATION).min() > 1
    np.testing.assert_allclose(call(terms.Isometric(way="exact"), scaled), (16 + 1 + 1 / 16) / 5.25**2, rtol=1e-10)
    np.testing.assert_allclose(call(terms.FlatMetric(), scaled), (2.25**2 + 0.75**2 + 1.5**2), rtol=1e-10)
    for form in ("product", "cosine", "contrast"):
        np.testing.assert_allclose(call(terms.Orthogonal(form=form), scaled), 0, atol=1e-12)
    np.testing.assert_allclose(call(terms.LogVolume(), 3 * scaled), 3 * np.log(3), rtol=1e-10)
    np.testing.assert_allclose(call(terms.LogVolume(of="encoder"), 3 * scaled), -3 * np.log(3), rtol=1e-10)
    np.testing.assert_allclose(call(terms.Spectral(steps=30), scaled), 4, rtol=1e-8)
    np.testing.assert_allclose(call(terms.Contractive(of="decoder"), scaled), 5.25, rtol=1e-10)
    np.testing.assert_allclose(call(terms.Contractive(), scaled), 5.25, rtol=1e-10)  # 1/4 + 1 + 4
    np.testing.assert_allclose(call(terms.Contractive(of="reconstruction"), scaled), 3, rtol=1e-10)  # a projection
    np.testing.assert_allclose(call(terms.HessianPenalty(), scaled), 0, atol=1e-18)


def test_invariances():
    """A rotation of the code leaves isometry, volume and norms; scaling one unit leaves the cosines, not products."""
    rng = np.random.default_rng(1)
    kernel, turn = rng.normal(size=(3, 6)), np.linalg.qr(rng.normal(size=(3, 3)))[0]
    same = (terms.Isometric(way="exact"), terms.FlatMetric(), terms.LogVolume(), terms.Contractive(of="decoder"))
    for term in same:
        np.testing.assert_allclose(term(linear(kernel), None), term(linear(turn @ kernel), None), rtol=1e-9)
    by = np.diag([3.0, 1.0, 0.2]) @ kernel
    for form, kept in (("cosine", True), ("contrast", True), ("product", False)):
        term = terms.Orthogonal(form=form)
        assert np.allclose(term(linear(kernel), None), term(linear(by), None), rtol=1e-9) == kept


def test_surrogate_has_the_gradient_of_the_log_volume_where_the_encoder_inverts_the_decoder():
    """E over all v of the gradient in the encoder's kernel is that of the encoder's -½ log det J_f J_fᵀ: -J_gᵀ."""
    done = linear(np.random.default_rng(2).normal(size=(3, 6)))
    graph, params, rest = nnx.split(done.model, nnx.Param, ...)

    def mean(params, term, key):
        again = passed(nnx.merge(graph, params, rest))
        return term(again._replace(key=key), None).mean()

    slope = lambda term, key: jax.grad(mean)(params, term, key)["encoder"]["head"]["kernel"][...]
    term = terms.LogVolume(way="surrogate")
    found = jax.jit(jax.vmap(lambda key: slope(term, key)))(jax.random.split(KEY, 3000))
    exact = -slope(terms.LogVolume(of="encoder"), KEY)
    np.testing.assert_allclose(exact, -done.model.decoder.last.kernel[...].T, rtol=1e-9)
    assert (jnp.abs(found.mean(0) - exact) < 5 * found.std(0) / 3000**0.5 + 1e-12).all()


def test_log_volume_survives_a_condition_number_that_gram_does_not():
    """float32, condition 1e6: JᵀJ is off by nats, QR by less than a thousandth (13 nats in all)."""
    rng = np.random.default_rng(3)
    u, v = (np.linalg.qr(rng.normal(size=(n, 8)))[0] for n in (40, 8))
    singular = np.logspace(0, -6, 8)
    j = jnp.asarray(u * singular @ v.T, jnp.float32)
    wanted = np.log(singular).sum()
    assert abs(float(half_log_det(j)) - wanted) < 2e-2
    assert not abs(0.5 * float(log_det(j.T @ j)) - wanted) < 0.5
    wide = j.astype(float)
    np.testing.assert_allclose(jax.grad(half_log_det)(wide), np.linalg.pinv(wide).T, rtol=1e-6)


def test_layers_are_taken_where_they_are_dense():
    taken = lambda cfg: layered(*(lambda d: (d.model, of_pass(d, "encoder", "")))(passed(made(cfg))))
    assert taken(SHALLOW)
    assert taken(dataclasses.replace(SHALLOW, posterior=posteriors.PointPosterior("tanh", active=2)))
    assert taken(dataclasses.replace(SHALLOW, posterior=posteriors.NormalPosterior()))
    assert taken(DEEP)
    assert not taken(dataclasses.replace(DEEP, encoder=Dense((5,), norm="layer")))
    assert not taken(dataclasses.replace(DEEP, posterior=posteriors.FullPosterior()))


@pytest.mark.parametrize("cfg", [SHALLOW, dataclasses.replace(SHALLOW, posterior=posteriors.NormalPosterior()), DEEP])
def test_hidden_values_and_labels(cfg):
    """Columns of values that were not observed are 0; labels are held fixed, whatever the way."""
    cfg = dataclasses.replace(cfg, labels="given")
    model = made(cfg, Sizes((6,), classes=3))
    mask = jnp.asarray(np.random.default_rng(0).random((4, 6)) < 0.6)
    label = jnp.asarray([0, 2, 1, 1])
    done = passed(model, Batch(X, label, mask))
    one = lambda x, y: model.encode(x[None], None, y[None]).mean[0]
    j = jax.vmap(jax.jacrev(one))(jnp.where(mask, X, 0), label) * mask[:, None]
    np.testing.assert_allclose(terms.Contractive()(done, None), square(j), rtol=1e-9)


def test_passive_units_do_not_break_the_cosines():
    kernel = np.random.default_rng(0).normal(size=(3, 6))
    kernel[1] = 0
    done = linear(kernel)
    value, slope = jax.value_and_grad(lambda z: terms.Orthogonal()(done._replace(z=z), None).sum())(done.z)
    cosine = kernel[0] @ kernel[2] / np.linalg.norm(kernel[0]) / np.linalg.norm(kernel[2])
    np.testing.assert_allclose(value, 4 * 2 * cosine**2, rtol=1e-9)
    assert jnp.isfinite(slope).all()


# kind -> {field: another value, or (a base in which it matters, another value)}
COPIES = terms.Contractive(corruptions=1)
FIELDS = {
    terms.Contractive: {
        "of": "decoder",
        "way": "probe",
        "corruptions": 2,
        "second": (COPIES, 0.7),
        "noise": (COPIES, 0.5),
    },
    terms.Isometric: {"way": "exact", "spread": 0.5},
    terms.FlatMetric: {"way": "probe", "spread": 0.5},
    terms.Orthogonal: {"form": "product"},
    terms.LogVolume: {"of": "encoder", "way": "surrogate"},
    terms.HessianPenalty: {"probes": 3, "over": "mean"},
    terms.Spectral: {"of": "encoder", "steps": 1},
    terms.Implicit: {"form": "full"},
    terms.SparseJacobian: {"of": "encoder", "way": "probe"},
}


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field_changes_the_term(kind):
    assert {*FIELDS[kind], "weight"} == {f.name for f in dataclasses.fields(kind)}
    done = passed(made())
    value = lambda term: jax.jit(lambda: term(done, None))()
    for name, change in FIELDS[kind].items():
        base, other = change if isinstance(change, tuple) else (kind(), change)
        before, after = value(base), value(dataclasses.replace(base, **{name: other}))
        assert before.shape == (4,)
        assert jnp.abs(before - after).max() > 1e-6, name


def test_every_kind_has_rows():
    kinds = {getattr(geometry, name) for name in geometry.__all__ if name[0].isupper()}
    assert set(FIELDS) == {kind for kind in kinds if not issubclass(kind, Exception)}


class Meanless:
    """A posterior that can only be drawn from."""


NARROW = dataclasses.replace(LINEAR, latent=7)
ALL = tuple(FIELDS)
NEED_WIDTH = (terms.Isometric, terms.FlatMetric, terms.Orthogonal, terms.LogVolume)


@pytest.mark.parametrize(
    ("term", "change", "words"),
    [
        *((kind(), {"training": True}, "batch statistics have none") for kind in ALL),
        *((kind(), {"narrow": True}, "not narrower than its code, got 6 values for 7") for kind in NEED_WIDTH),
        (terms.Orthogonal(), {"latent": 1}, "latent must be at least 2, got 1"),
        (terms.HessianPenalty(), {"latent": 1}, "latent must be at least 2, got 1"),
        *(
            (kind(), {"x": X[:1]}, "batch_size must be at least 2, got 1")
            for kind in (terms.Isometric, terms.FlatMetric)
        ),
        (terms.Contractive(way="probe"), {"key": None}, "the pass has no key"),
        (terms.Contractive(corruptions=1), {"key": None}, "the pass has no key"),
        (terms.Spectral(), {"key": None}, "the pass has no key"),
        (terms.Contractive(), {"mean": False}, "needs a posterior with a mean"),
        (terms.Implicit(), {"mean": False}, "needs a posterior with a mean"),
        (terms.Contractive(), {"symbols": True}, "real numbers, got int32 symbols"),
        (terms.Contractive(), {"encoder": False}, "needs an encoder"),
        (
            terms.Implicit(),
            {"likelihood": likelihoods.LaplaceLikelihood()},
            "normal and bernoulli likelihoods, got laplace",
        ),
    ],
)
def test_what_has_no_jacobian_is_named(term, change, words):
    cfg = dataclasses.replace(DEEP, **{k: v for k, v in change.items() if k in ("latent", "likelihood")})
    if change.get("training"):
        cfg = dataclasses.replace(cfg, encoder=Dense((5,), norm="batch"))
    model = made(NARROW if change.get("narrow") else cfg)
    done = passed(model, change.get("x", X), change.get("training", False))
    if "key" in change:
        done = done._replace(key=None)
    if "symbols" in change:
        done = done._replace(batch=Batch(jnp.zeros((4, 6), jnp.int32)))
    if "mean" in change:
        model.posterior_module = lambda numbers, model, key: Meanless()
        done = done._replace(q=Meanless())
    if "encoder" in change:
        done = done._replace(model=made(dataclasses.replace(DEEP, encoder=Nothing(), decoder=Dense((4,)))))
    with pytest.raises(ConfigError, match=words) as error:
        term(done, None)
    assert "\n" not in str(error.value)


def test_surrogate_of_the_encoder_is_refused():
    with pytest.raises(ConfigError, match="use of decoder"):
        terms.LogVolume(of="encoder", way="surrogate").check()


def test_bernoulli_information_is_finite_at_saturated_logits():
    """p (1 - p) underflows at a logit of 800; the regulariser and its gradient are finite, right at moderate ones."""
    done = passed(made(dataclasses.replace(DEEP, likelihood=likelihoods.BernoulliLikelihood())))
    j, m = dense(done, "decoder"), done.model.decode(done.z).mean
    h = jnp.einsum("bij,bi,bik->bjk", j, 1 / (m * (1 - m)), j)
    wanted = 0.5 * jnp.sum(done.z**2, 1) + 0.5 * log_det(jnp.eye(3)[None] + h)
    np.testing.assert_allclose(terms.Implicit(form="full")(done, None), wanted, rtol=1e-9)
    done.model.decoder.last.bias[...] = jnp.full(6, 800.0)
    for form in ("full", "diagonal"):
        value, slope = jax.value_and_grad(
            lambda z: terms.Implicit(form=form)(done._replace(q=type(done.q)(z)), None).sum()
        )(done.z)
        assert jnp.isfinite(value)
        assert jnp.isfinite(slope).all()


def test_all_sign_vectors_average_to_the_norm():
    """Not only in expectation over keys: over all 2³ vectors of signs the mean of |J v|² is ||J||²."""
    j = dense(passed(made()), "decoder")
    every = jnp.asarray(list(itertools.product((-1.0, 1.0), repeat=3)))
    np.testing.assert_allclose(jnp.mean(jnp.sum(jnp.einsum("bij,kj->bki", j, every) ** 2, 2), 1), square(j), rtol=1e-12)
