"""What joins the parts: batches with labels and masks, lists of parts, configs of earlier versions."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import train
from models import (
    ELBO,
    Autoencoder,
    Batch,
    ConfigError,
    Dense,
    Model,
    Sizes,
    distributions,
    likelihoods,
    posteriors,
    priors,
    terms,
)
from models.batch import as_batch, repeated
from models.config import config as declare
from models.config import flat, from_dict, kind, part_types, replace_at, setting, to_dict, validate, with_traced
from models.metrics import per_example
from models.networks.held import Held
from training.examples import Examples

KEY = jax.random.key(0)
X = jax.random.uniform(jax.random.key(1), (5, 6))
DENSITIES = {
    "normal": lambda v: distributions.Normal(v, jnp.zeros(v.shape)),
    "optimal": lambda v: distributions.OptimalNormal(v, jnp.zeros(())),
    "laplace": lambda v: distributions.Laplace(v, jnp.zeros(v.shape)),
    "bernoulli": distributions.Bernoulli,
    "continuous": distributions.ContinuousBernoulli,
    "logistic": lambda v: distributions.DiscretizedLogistic(v, jnp.zeros(v.shape)),
    "categorical": lambda v: distributions.Categorical(v[..., None] * jnp.linspace(-1, 1, 256)[None, None]),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_a_mask_takes_values_out_of_the_density(name):
    """log_prob with a mask does not see hidden values, and is the sum of what single values give."""
    mask = jax.random.bernoulli(KEY, 0.6, X.shape)
    numbers = jax.random.normal(KEY, X.shape)
    make = DENSITIES[name]
    found = make(numbers).log_prob(X, mask)
    np.testing.assert_allclose(found, make(numbers).log_prob(jnp.where(mask, X, 0.123), mask), rtol=1e-12)
    if name != "optimal":  # its one variance is that of the batch
        single = jnp.stack([make(numbers[:, i : i + 1]).log_prob(X[:, i : i + 1]) for i in range(6)], axis=1)
        np.testing.assert_allclose(found, jnp.sum(single * mask, axis=1), rtol=1e-9)
    np.testing.assert_array_equal(make(numbers).log_prob(X, jnp.ones(X.shape, bool)), make(numbers).log_prob(X))


def test_hidden_values_may_be_anything_even_nan():
    mask = jax.random.bernoulli(KEY, 0.6, X.shape)
    batch = Batch(jnp.where(mask, X, jnp.nan), None, mask)
    cfg = Model(encoder=Dense((4,)), latent=2, likelihood=likelihoods.NormalLikelihood("optimal"))
    graph, params, rest = nnx.split(Autoencoder(cfg, (6,), rngs=nnx.Rngs(0)), nnx.Param, ...)

    def loss(params, batch):
        model = nnx.merge(graph, params, rest, copy=True)
        return ELBO()(model, batch, KEY)[0].mean(), per_example(model, batch, KEY)

    (value, metrics), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, batch)
    assert all(jnp.isfinite(a).all() for a in jax.tree.leaves((value, metrics, gradient)))
    other = jax.jit(loss)(params, Batch(jnp.where(mask, X, 7.0), None, mask))
    np.testing.assert_array_equal(value, other[0])
    count = mask.sum(1)
    np.testing.assert_allclose(
        metrics["density_bits_per_dim"] * count * np.log(2), metrics["negative_elbo_nats"], rtol=1e-9
    )


def labelled(labels, **more):
    cfg = Model(encoder=Dense((4,)), latent=2, labels=labels, **more)
    return Autoencoder(cfg, Sizes((6,), classes=3), rngs=nnx.Rngs(0))


def test_labels_reach_encoder_and_decoder_and_an_unknown_one_is_zeros():
    model, label = labelled("given"), jnp.asarray([0, 1, 2, 0, -1])
    z = jnp.ones((5, 2))
    assert jnp.abs(model.encode(X, None, label).mean - model.encode(X, None, (label + 1) % 3).mean).max() > 1e-3
    assert jnp.abs(model.decode(z, None, label).mean - model.decode(z, None, (label + 1) % 3).mean).max() > 1e-3
    zeros = model.encode(X, None, jnp.zeros((5, 3))).mean
    np.testing.assert_array_equal(model.encode(X, None, label).mean[-1], zeros[-1])
    with pytest.raises(ValueError, match="label of every example"):
        model.encode(X)
    plain = Autoencoder(Model(encoder=Dense((4,)), latent=2), (6,), rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(plain.encode(X, None, label).mean, plain.encode(X).mean)


def test_inferred_labels_are_a_classifiers():
    model, label = labelled("inferred"), jnp.asarray([0, 1, 2, 0, 1])
    np.testing.assert_allclose(jnp.exp(model.classify(X)).sum(1), 1, rtol=1e-12)
    found = per_example(model, Batch(X, label), KEY)
    np.testing.assert_array_equal(found["accuracy"], model.classify(X).argmax(1) == label)
    with pytest.raises(ConfigError, match="labels inferred"):
        labelled("given").classify(X)


CHAINS = {"posterior": posteriors.ChainPosterior((2, 4), ladder=True), "latent": 6}


@pytest.mark.parametrize(
    ("parts", "value", "way_out"),
    [
        ({"labels": "given"}, "labels 'given'", "use labels none"),
        ({"labels": "inferred"}, "labels 'inferred'", "use labels none"),
        (CHAINS | {"prior": priors.ChainPrior((3, 3))}, "got (3, 3)", "use one for both"),
        (CHAINS, "its prior", "use prior chain"),
        (CHAINS | {"latent": 5, "prior": priors.ChainPrior((2, 4))}, "latent=5, got (2, 4)", "use latent 6"),
    ],
)
def test_labels_that_are_not_there_and_levels_that_do_not_fit_are_refused(parts, value, way_out):
    with pytest.raises(ConfigError) as refused:
        Autoencoder(Model(encoder=Dense((4,)), **parts), (6,), rngs=nnx.Rngs(0))
    text = str(refused.value)
    assert value in text
    assert way_out in text
    assert "\n" not in text


def test_repeated_lays_all_examples_beside_each_other():
    batch = repeated(Batch(X, jnp.arange(5)), 3)
    np.testing.assert_array_equal(batch.x, jnp.concatenate([X] * 3))
    np.testing.assert_array_equal(batch.label, jnp.tile(jnp.arange(5), 3))
    assert as_batch(X) == Batch(X)


def test_held_configs_keep_traced_floats():
    cfg = likelihoods.NormalLikelihood(std=0.5)
    found = jax.jit(jax.vmap(lambda s: Held(with_traced(cfg, std=s))().std))(jnp.asarray([0.1, 0.3]))
    np.testing.assert_allclose(found, [0.1, 0.3])
    assert Held(cfg)().scale == "fixed"
    assert not nnx.state(Held(cfg), nnx.Param)


CONFIG = train.Config(terms=(terms.MMD(weight=2.0), terms.Sparsity()))


def test_lists_of_parts_are_subtrees_paths_and_json():
    assert CONFIG.terms[0].weight in jax.tree.leaves(CONFIG)
    other = replace_at(CONFIG, "terms.mmd.weight", 3)
    assert other.terms == (terms.MMD(weight=3.0), terms.Sparsity())
    assert jax.tree.structure(other) == jax.tree.structure(CONFIG)
    assert jax.tree.structure(replace_at(CONFIG, "terms", ["mmd"])) != jax.tree.structure(CONFIG)
    assert dict(flat(CONFIG))["terms"] == ("mmd", "sparsity")
    assert dict(flat(CONFIG))["terms.mmd.weight"] == 2.0
    assert from_dict(train.Config, json.loads(json.dumps(to_dict(CONFIG)))) == CONFIG
    named = from_dict(train.Config, {"terms": [{"kind": "total_correlation", "weight": 1}, "code_norm"]})
    assert named.terms == (terms.TotalCorrelation(weight=1.0), terms.CodeNorm())


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("terms", ["mmd", "mmd"], "one part of each kind, got mmd, mmd"),
        ("terms", ["mmdd"], "must be one of"),
        ("terms.dip.weight", 1.0, "which holds mmd, sparsity"),
        ("terms.mmd.wieght", 1.0, "weight"),
        ("terms.mmd.weight", "much", "type float"),
    ],
)
def test_wrong_lists_are_named(path, value, words):
    with pytest.raises(ConfigError, match=words):
        replace_at(CONFIG, path, value)


def test_a_term_of_the_users_own_passes_from_python():
    @declare
    class Own:
        weight: float = setting(1.0)

        def __call__(self, done, net):
            return done.z.sum(1)

    cfg = train.Config(terms=(Own(weight=2.0),), model=Model(encoder=Dense((4,)), latent=2))
    validate(cfg)
    model = Autoencoder(cfg.model, (6,), rngs=nnx.Rngs(0))
    loss, found, _ = train.batch_loss(cfg, model, Batch(X), KEY, 0)
    np.testing.assert_allclose(loss, found["negative_elbo"] + 2 * found["own"], rtol=1e-6)


def test_terms_draw_with_keys_of_their_own():
    """Two terms with one key would see the same draws of the prior."""

    @declare
    class First:
        weight: float = setting(1.0)

        def __call__(self, done, net):
            return jax.random.normal(done.key, (done.batch.size,))

    @declare
    class Second(First):
        pass

    cfg = train.Config(terms=(First(), Second()), model=Model(encoder=Dense((4,)), latent=2))
    model = Autoencoder(cfg.model, (6,), rngs=nnx.Rngs(0))
    found = train.batch_loss(cfg, model, Batch(X), KEY, 0)[1]
    assert abs(found["first"] - found["second"]) > 1e-3


def test_a_part_of_examples_keeps_labels_masks_and_range():
    label, mask = jnp.arange(len(X)) % 3, X > 0.5
    some = Examples(X, (0.0, 2.0), label, mask, 3).part(slice(1, 4))
    assert (some.range, some.classes) == ((0.0, 2.0), 3)
    for ours, whole in ((some.x, X), (some.label, label), (some.mask, mask)):
        np.testing.assert_array_equal(ours, whole[1:4])


def test_configs_of_earlier_versions_load():
    old = {"kind": "Model", "posterior": "point", "code": "sigmoid", "latent": 3}
    assert from_dict(Model, old) == Model(posterior=posteriors.PointPosterior("sigmoid"), latent=3)
    assert from_dict(Model, {"posterior": "normal", "code": "identity"}) == Model()
    sparse = {"objective": {"kind": "Sparse", "penalty": "kl", "weight": 0.5, "target": 0.2, "error": "nll"}}
    found = from_dict(train.Config, sparse)
    assert found.terms == (terms.Sparsity("kl", 0.5, 0.2),)
    assert found.objective.error == "nll"


def test_a_part_is_given_not_named_from_python():
    with pytest.raises(ConfigError, match=r"must be a part, such as PointPosterior\(\), got 'point'"):
        validate(with_traced(Model(), posterior="point"))


def test_names_that_scripts_rely_on():
    names = lambda cls, field: {kind(t) for t in part_types(cls, field)}
    assert {"point", "normal", "full", "low_rank"} <= names(Model, "posterior")
    assert {"standard", "mixture", "vamp", "labelled"} <= names(Model, "prior")
    assert {"reconstruction", "denoising", "elbo", "bound", "sampling"} <= names(train.Config, "objective")
    wanted = {"sparsity", "code_norm", "mmd", "sliced_wasserstein", "total_correlation", "dip", "adversarial"}
    assert {w.replace("_", "") for w in wanted} <= {n.replace("_", "") for n in names(train.Config, "terms")}
    assert priors.StandardPrior() == Model().prior
