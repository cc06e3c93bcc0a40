"""Defects found in well-known libraries of autoencoders, by number: none of them is here.

`ELSEWHERE` names the test that holds a defect off where the part has tests of its own; `NO_SUCH_PART` what cannot have
the defect because the part is not built: whoever builds it moves the row.
"""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from flax import nnx

import data
import train
from models import ELBO, Autoencoder, Dense, Model, distributions, per_example
from models.batch import as_batch
from models.codes import weigher
from models.objectives import Bound
from training.evaluate import evaluate
from training.examples import Examples

HERE = Path(__file__).parent
KEY = jax.random.key(0)
X = jnp.round(jax.random.uniform(KEY, (5, 6)))
CONFIG = train.Config(model=Model(encoder=Dense((4,)), latent=2), batch_size=16)

ELSEWHERE = {
    4: "terms/test_terms.py::test_stratified_weights_sum_to_one_with_the_own_example_on_the_diagonal",
    5: "terms/test_terms.py::test_total_correlation_and_mutual_information_of_a_gaussian_at_full_batch",
    6: "metrics/test_factors.py::test_a_perfect_code_has_mig_1",
    10: "parts/test_posteriors.py::test_leapfrog_keeps_volume_comes_back_and_its_weights_have_the_mean_one",
    11: "test_bound.py::test_outer_and_inner_draws_are_not_exchanged",
    12: "metrics/test_log_likelihood.py::test_the_bound_grows_with_the_draws_and_reaches_the_likelihood",
    13: "parts/test_posteriors.py::test_a_planar_posterior_has_a_draw_with_its_density_and_depends_on_the_example",
    14: "terms/test_geometry_terms.py::test_value_and_gradient_are_those_of_the_dense_jacobian",
    16: "../training/test_optimizers.py::test_stages_triple_and_end_after_epochs_1_4_13_40_121_364_1093",
    18: "parts/test_posteriors.py::test_quantised_codes_are_nearest_entries_and_the_decoder_sees_them",
    19: "terms/test_geometry_terms.py::test_value_and_gradient_are_those_of_the_dense_jacobian",
}
NO_SUCH_PART: dict[int, str] = {}


def build(**more):
    return Autoencoder(Model(encoder=Dense((4,)), latent=2, **more), (6,), rngs=nnx.Rngs(0))


def examples(n, seed=0):
    return Examples(jax.random.uniform(jax.random.key(seed), (n, 6)))


def test_1_an_epochs_steps_are_one_compiled_loop():
    """Not one dispatch per step: the program of an epoch is a loop over its batches."""
    some = examples(64)
    state = jax.eval_shape(lambda: train.init(CONFIG, KEY, some))
    order = jnp.arange(64)
    program = jax.make_jaxpr(lambda s: train.train_steps(s, CONFIG, KEY, some, order, 4))(state)
    assert any(e.primitive.name in ("while", "scan") for e in program.eqns)


@pytest.mark.parametrize("logit", [90.0, 1e4])
def test_2_cross_entropy_of_large_logits_is_finite_with_its_gradient(logit):
    logits = jnp.asarray([[logit], [logit], [-logit], [-logit]], jnp.float32)
    x = jnp.asarray([[0.0], [1.0], [0.0], [1.0]], jnp.float32)
    loss = lambda v: -distributions.Bernoulli(v).log_prob(x).sum()
    np.testing.assert_allclose(-distributions.Bernoulli(logits).log_prob(x), [logit, 0, 0, logit])
    np.testing.assert_allclose(jax.grad(loss)(logits)[:, 0], [1, 0, 0, -1])


def test_3_reconstructions_are_probabilities_and_the_loss_is_a_sum_over_values_and_codes():
    model = build()
    model.decoder.last.bias[...] = 30 + model.decoder.last.bias[...]
    mean = model.decode(jnp.zeros((1, 2))).mean
    assert ((mean > 0.99) & (mean <= 1)).all()
    loss, _, done = ELBO()(model, X, KEY, False)
    logits, q = done.p.logits, done.q
    cross = -np.sum(X * logits - np.logaddexp(0, logits), axis=1)
    kl = 0.5 * np.sum(q.mean**2 + np.exp(2 * q.log_std) - 1 - 2 * q.log_std, axis=1)
    np.testing.assert_allclose(loss, cross + kl, rtol=1e-10)


def test_7_and_20_an_evaluation_is_the_mean_over_all_examples_and_hides_no_nan():
    """More examples than one batch, the last one short; the example that is not finite is not filtered out."""
    some = examples(520)
    state = train.init(CONFIG, KEY, some)
    found = evaluate(CONFIG, state, some, KEY)
    truth = per_example(train.trained_model(CONFIG, state), some.x, KEY)
    np.testing.assert_allclose(found["mse"], truth["mse"].mean(), rtol=1e-10)
    np.testing.assert_allclose(found["kl_nats"], truth["kl_nats"].mean(), rtol=1e-10)
    last = evaluate(CONFIG, state, some.part(slice(512, 520)), KEY)
    assert abs(float(last["mse"] - found["mse"])) > 1e-6
    spoiled = dataclasses.replace(some, x=some.x.at[517, 0].set(jnp.nan))
    assert np.isnan(evaluate(CONFIG, state, spoiled, KEY)["mse"])


def test_8_the_largest_share_of_the_gradient_goes_to_the_best_draw():
    """The gradient of the bound is that of Σ w log w_i with w = softmax(+log w), held; softmax(-log w) is another."""
    graph, params, rest = nnx.split(build(), nnx.Param, ...)

    def log_weights(params):
        _, z, log_q, weigh = weigher(nnx.merge(graph, params, rest, copy=True), as_batch(X), KEY, 4, False)
        return weigh(z, log_q)

    def slope(loss):
        return np.concatenate([np.ravel(g) for g in jax.tree.leaves(jax.grad(loss)(params))])

    def shared(sign):
        share = jax.nn.softmax(sign * log_weights(params), axis=0)
        return slope(lambda p: -jnp.mean(jnp.sum(share * log_weights(p), axis=0)))

    bound = slope(lambda p: jnp.mean(Bound(samples=4)(nnx.merge(graph, p, rest, copy=True), X, KEY, False)[0]))
    np.testing.assert_allclose(bound, shared(1), rtol=1e-9, atol=1e-12)
    assert np.abs(bound - shared(-1)).max() > 1e-2


def test_9_densities_have_their_parentheses_and_test_data_are_not_validation_data():
    q = distributions.Normal(jnp.asarray([[0.3, -2.0]]), jnp.asarray([[0.9, -1.1]]))
    z = jnp.asarray([[1.4, -1.0]])
    truth = scipy.stats.norm(q.mean, np.exp(q.log_std)).logpdf(z).sum(1)
    np.testing.assert_allclose(q.log_prob(z), truth, rtol=1e-12)
    assert (per_example(build(), X, KEY)["kl_nats"] > 0).all()  # logged with its sign
    splits = data.load("digits").splits
    rows = {name: {row.tobytes() for row in split.x} for name, split in splits.items()}
    assert len(rows["test"] & rows["validation"]) < 0.01 * len(rows["test"])


def test_15_every_epoch_has_its_own_order():
    first, second = (train.epoch_order(KEY, epoch, 100) for epoch in (0, 1))
    assert sorted(np.asarray(first)) == list(range(100)) == sorted(np.asarray(second))
    assert (first != second).mean() > 0.9


def test_17_the_default_kl_has_a_gradient():
    """Capacity 0 means the KL itself; it is not clamped to 0."""
    graph, params, rest = nnx.split(build(), nnx.Param, ...)

    merged = lambda p: nnx.merge(graph, p, rest, copy=True)

    def kl_part(params, objective):
        loss, terms, _ = objective(merged(params), X, KEY, False)
        return jnp.mean(loss - terms["nll"])

    for objective, sign in ((ELBO(), 1), (ELBO(capacity=1e3), -1)):
        slope = jax.grad(kl_part)(params, objective)["encoder"]["head"]["kernel"][...]
        free = jax.grad(lambda p: jnp.mean(merged(p).encode(X).kl(merged(p).prior())))(params)
        np.testing.assert_allclose(slope, sign * free["encoder"]["head"]["kernel"][...], rtol=1e-9, atol=1e-12)
        assert jnp.abs(slope).max() > 1e-4


@pytest.mark.parametrize("change", [{"beta": 2.0}, {"free_bits": 3.0}, {"capacity": 5.0}, {"refine_steps": 1}])
def test_21_every_field_of_the_bound_changes_it(change):
    """The fields of all other parts: CHANGES and FIELDS in the tests of likelihoods, objectives, posteriors, ..."""
    model = build()
    plain, other = (objective(model, X, KEY, False)[0] for objective in (ELBO(), ELBO(**change)))
    assert jnp.abs(plain - other).max() > 1e-6


def test_21_ramps_change_the_step_they_are_for():
    assert ELBO(beta=2.0, warmup_steps=10).at(5).beta == 1.0
    assert ELBO(capacity=4.0, capacity_steps=8).at(2).capacity == 1.0


def test_every_defect_has_its_row():
    own = {int(n) for name in globals() for n in re.findall(r"(?<=test_)\d+|(?<=_and_)\d+", name)}
    for place in ELSEWHERE.values():
        file, _, test = place.partition("::")
        assert f"def {test}(" in (HERE / file).read_text(), place
    assert own | set(ELSEWHERE) | set(NO_SUCH_PART) == set(range(1, 22))
    assert not own & set(NO_SUCH_PART)
