"""What a code says, on a Gaussian where every number has a closed form; use of discrete codes; the list of metrics."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Autoencoder, Batch, Dense, Model, Sizes, likelihoods, posteriors, priors
from models.config import ConfigError
from models.metrics import METRICS, Shown, Subject, discrete, estimates, information, registry

N, D, STD = 1500, 2, 0.5
COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]])


@pytest.fixture(scope="module")
def gaussian():
    """q(z|x) = N(x, 1/4), x normal with correlation 0.8: z is normal too."""
    x = np.random.default_rng(0).multivariate_normal(np.zeros(D), COVARIANCE, N)
    cfg = Model(
        encoder=Dense(hidden=()), decoder=Dense(hidden=()), latent=D, likelihood=likelihoods.NormalLikelihood(std=0.7)
    )
    model = Autoencoder(cfg, (D,), rngs=nnx.Rngs(0))
    model.encoder.head.kernel[...] = jnp.eye(D, 2 * D)
    model.encoder.head.bias[...] = jnp.array([0.0] * D + [np.log(STD)] * D)
    model.decoder.last.kernel[...], model.decoder.last.bias[...] = jnp.eye(D), jnp.zeros(D)
    return Subject(model, Shown(Batch(x)))


def exact():
    c = COVARIANCE + STD**2 * np.eye(D)
    total = 0.5 * (np.log(np.diag(c)).sum() - np.linalg.slogdet(c)[1])
    information = 0.5 * np.linalg.slogdet(c / STD**2)[1]
    to_prior = 0.5 * (np.trace(c) - D - np.linalg.slogdet(c)[1])
    single = 0.5 * (np.diag(c) - 1 - np.log(np.diag(c))).sum()
    return {
        "mutual_information_nats": information,
        "aggregate_kl_nats": to_prior,
        "total_correlation_nats": total,
        "dimension_kl_nats": single,
    }


def test_information_of_a_gaussian_at_full_batch(gaussian):
    found = information.aggregate(gaussian)
    assert set(found) == set(exact())
    for name, value in exact().items():
        assert found[name].value == pytest.approx(value, abs=0.1)
        assert 0 < found[name].error < 0.06
        assert found[name].unit == "nats"
    rate = information.rate_distortion(gaussian)["rate_nats"].value
    parts = found["mutual_information_nats"].value + found["aggregate_kl_nats"].value
    assert rate == pytest.approx(parts, abs=4 * 0.02)  # the draw of log q(z|x), beside its closed form


def test_the_jackknife_sees_both_roles_of_an_example(gaussian):
    """The errors are the spread over new examples, which move the draws and q(z) alike."""
    values, errors = [], []
    for seed in range(12):
        x = np.random.default_rng(seed).multivariate_normal(np.zeros(D), COVARIANCE, 120)
        found = information.aggregate(Subject(gaussian.model, Shown(Batch(x)), seed=seed))["aggregate_kl_nats"]
        values.append(found.value)
        errors.append(found.error)
    assert np.std(values, ddof=1) / np.mean(errors) == pytest.approx(1, abs=0.5)


def test_stratified_batches_are_near_where_examples_are_few(gaussian):
    few = Subject(gaussian.model, Shown(Batch(gaussian.test.batch.x[:256])))
    full, batches = information.aggregate(few), information.minibatch(few)
    for name in ("mutual_information_nats", "total_correlation_nats"):
        assert batches[f"stratified_{name}"].value == pytest.approx(full[name].value, abs=0.35)
    whole = Subject(gaussian.model, Shown(Batch(gaussian.test.batch.x[:64])))  # one batch is all there is: no bias
    one, same = information.minibatch(whole), information.aggregate(whole)["mutual_information_nats"]
    assert one["stratified_mutual_information_nats"].value == pytest.approx(same.value, abs=4 * same.error)


@pytest.mark.parametrize("posterior", [posteriors.FullPosterior(), posteriors.LowRankPosterior()])
def test_other_densities_have_the_joint_numbers(gaussian, posterior):
    model = Autoencoder(Model(encoder=Dense(hidden=()), latent=D, posterior=posterior), (D,), rngs=nnx.Rngs(1))
    found = information.aggregate(Subject(model, Shown(Batch(gaussian.test.batch.x[:40]))))
    assert set(found) == {"mutual_information_nats", "aggregate_kl_nats"}
    assert 0 <= found["mutual_information_nats"].value <= np.log(40)


def test_active_units_and_kl_by_dimension_and_level(gaussian):
    idle = nnx.merge(*nnx.split(gaussian.model), copy=True)
    idle.encoder.head.kernel[...] = jnp.eye(D, 2 * D).at[1, 1].set(0.01)
    assert information.active_units(Subject(idle, gaussian.test))["active_units"] == estimates.Measured(1, "units", 0)
    kl = information.kl(gaussian)["kl_per_dim_nats"]
    rate = information.rate_distortion(gaussian)["rate_nats"]
    assert sum(kl.value) == pytest.approx(rate.value, rel=1e-9)
    assert len(kl.error) == D
    chain = Model(
        encoder=Dense(hidden=(4,)), latent=3, posterior=posteriors.ChainPosterior(), prior=priors.ChainPrior()
    )
    levels = information.kl(Subject(Autoencoder(chain, (D,), rngs=nnx.Rngs(0)), gaussian.test))
    by_level = sum(levels[f"kl_level_{i}_nats"].value for i in (1, 2))
    assert by_level == pytest.approx(sum(levels["kl_per_dim_nats"].value))
    assert information.kl(gaussian)["kl_level_1_nats"].value == pytest.approx(rate.value, rel=1e-9)  # one level


def test_use_of_codes():
    """8 examples on 2 of 3 levels at one place, evenly; 1 of 3 at the other."""
    cfg = Model(
        encoder=Dense(hidden=()), latent=2, posterior=posteriors.FSQPosterior(levels=3), prior=priors.CodesPrior()
    )
    subject = Subject(Autoencoder(cfg, (2,), rngs=nnx.Rngs(0)), Shown(Batch(np.zeros((8, 2)))))
    subject.model.encoder.head.kernel[...], subject.model.encoder.head.bias[...] = 5 * jnp.eye(2), jnp.zeros(2)
    x = np.stack([np.tile([-1.0, 1.0], 4), np.zeros(8)], 1)
    found = discrete.codes(Subject(subject.model, Shown(Batch(x))))
    assert found["code_entropy_bits"].value == pytest.approx(1)
    assert found["perplexity"].value == pytest.approx(2**0.5)
    assert found["code_use"].value == pytest.approx(3 / 6)
    assert found["code_rate_bits"].value == pytest.approx(2 * np.log2(3))
    one = discrete.codes(Subject(subject.model, Shown(Batch(0 * x))))["code_entropy_bits"].value
    assert (one, bool(np.signbit(one))) == (0, False)


def test_errors_of_means_shares_and_jackknives():
    values = np.random.default_rng(1).normal(size=50)
    mean = estimates.mean_of(values, "nats")
    assert mean.error == pytest.approx(values.std(ddof=1) / 50**0.5)
    jack = estimates.jackknife(lambda index: values[index].mean(), 50, "nats", groups=50)
    assert (jack.value, jack.error) == pytest.approx((mean.value, mean.error))  # exact for a mean
    assert estimates.share([True, False, False, False]).error == pytest.approx((3 / 64) ** 0.5)
    alone = estimates.mean_of([3.0], "nats"), estimates.jackknife(lambda index: 3.0, 1, "nats")
    assert alone == (estimates.Measured(3.0, "nats", None),) * 2  # one example says nothing of its spread
    equal = estimates.mean_of(np.full(20, 1 / 3), "nats"), estimates.jackknife(lambda index: 1 / 3, 450, "nats")
    assert [e.error for e in equal] == [0, 0]  # not the rounding of a mean
    once = estimates.jackknife(lambda index: 1.0 if 0 in index else np.nan, 9, "area")
    assert once == estimates.Measured(1.0, "area", None)


def test_what_cannot_be_measured_says_why(gaussian):
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    point = Autoencoder(Model(posterior=posteriors.PointPosterior(), latent=2), (D,), rngs=nnx.Rngs(0))
    found, why = registry.measure(Subject(point, Shown(Batch(np.ones((3, D))))))
    assert set(found) == {"errors"}
    assert "points" in why["kl"]
    many = Shown(Batch(np.ones((5, D))), np.arange(5))  # draws of a prior that training never met tell nothing
    assert "no term" in registry.measure(Subject(point, many, many, matched=False), ["samples"])[1]["samples"]
    with pytest.raises(ConfigError, match="no metric is called 'kll'; nearest: kl"):
        registry.measure(gaussian, ["kll"])
    labelled = Model(encoder=Dense(hidden=()), latent=2, prior=priors.LabelledPrior())
    model = Autoencoder(labelled, Sizes((D,), 3), rngs=nnx.Rngs(0))
    subject = Subject(model, Shown(Batch(np.ones((3, D)), np.zeros(3, np.int32))))
    assert "each label" in registry.measure(subject, ["aggregate"])[1]["aggregate"]
    assert registry.measure(subject, ["rate_distortion"])[0]
    narrow = Model(encoder=Dense(hidden=()), latent=2)
    narrow = Autoencoder(narrow, (D,), rngs=nnx.Rngs(0))
    head = narrow.encoder.head
    head.kernel[...], head.bias[...] = 0 * head.kernel[...], jnp.array([1e12, 1e12, -40, -40])
    why = registry.measure(Subject(narrow, Shown(Batch(np.ones((3, D))))), ["aggregate"])[1]
    assert "last digits" in why["aggregate"]
    assert all("each label" in why for why in registry.measure(subject, ["annealed", "compression"])[1].values())
    few = Subject(point, *[Shown(Batch(np.ones((3, D))), np.arange(3))] * 2)
    assert "5 examples" in registry.measure(few, ["samples"])[1]["samples"]
