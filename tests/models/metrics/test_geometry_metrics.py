"""The report card against dense Jacobians and known truths: linear models, isometries, orthogonal columns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import ConfigError, Dense, Sizes, likelihoods, posteriors
from models.batch import Batch
from models.metrics import geometry as module
from models.metrics.geometry import report_card
from models.networks import Nothing
from tests.models.terms.test_geometry_terms import DEEP, LINEAR, ROTATION, SHALLOW, made

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (11, 6))


def linear(kernel, inverse=None):
    """g(z) = z kernel + b, f its pseudo-inverse (or another)."""
    model = made(LINEAR)
    model.decoder.last.kernel[...] = jnp.asarray(kernel)
    model.encoder.head.kernel[...] = jnp.asarray(np.linalg.pinv(kernel) if inverse is None else inverse)
    return model


def test_deep_model_against_dense_jacobians_whatever_the_chunk():
    model = made(DEEP)
    f = lambda x: model.encode(x[None]).mean[0]
    g = lambda z: model.decode(z[None]).mean[0]
    j_f = np.asarray(jax.vmap(jax.jacrev(f))(X))
    j_g = np.asarray(jax.vmap(jax.jacfwd(g))(jax.vmap(f)(X)))
    card = report_card(model, X, KEY, chunk=4)  # 11 = 4 + 4 + 3: a chunk that is filled up
    other = report_card(model, X, KEY, chunk=64)
    for name in card:
        if "secant" not in name:  # pairs are drawn inside a chunk
            np.testing.assert_allclose(card[name], other[name], rtol=1e-8, atol=1e-12, err_msg=name)
    s_f, s_g = (np.linalg.svd(j, compute_uv=False) for j in (j_f, j_g))
    gram = j_g.transpose(0, 2, 1) @ j_g
    volume_g = 0.5 * np.linalg.slogdet(gram)[1]
    volume_f = 0.5 * np.linalg.slogdet(j_f @ j_f.transpose(0, 2, 1))[1]
    mean = np.linalg.inv(gram.mean(0))
    apart = [(np.log(np.linalg.eigvals(mean @ one).real) ** 2).sum() for one in gram]
    columns = np.log(np.linalg.norm(j_g, axis=1)).sum(1)
    wanted = {
        "examples": 11,
        "active_units": 3,
        "singular_share": 0,
        "encoder_jacobian_squared": (j_f**2).sum((1, 2)).mean(),
        "decoder_jacobian_squared": (j_g**2).sum((1, 2)).mean(),
        "encoder_singular_values": s_f.mean(0),
        "decoder_singular_values": s_g.mean(0),
        "encoder_participation": ((s_f**2).sum(1) ** 2 / (s_f**4).sum(1)).mean(),
        "decoder_participation": ((s_g**2).sum(1) ** 2 / (s_g**4).sum(1)).mean(),
        "encoder_lipschitz": s_f.max(),
        "decoder_lipschitz": s_g.max(),
        "intrinsic_dimension": (np.linalg.svd(j_g @ j_f, compute_uv=False) > 0.5).sum(1).mean(),
        "reconstruction_trace": np.trace(j_g @ j_f, axis1=1, axis2=2).mean(),
        "inverse_error": np.linalg.norm(j_f @ j_g - np.eye(3), axis=(1, 2)).mean(),
        "decoder_log_volume_nats": volume_g.mean(),
        "encoder_log_volume_nats": volume_f.mean(),
        "log_volume_gap_nats": (volume_f + volume_g).mean(),
        "metric_condition": np.linalg.cond(gram).mean(),
        "metric_condition_median": np.median(np.linalg.cond(gram)),
        "metric_variance": np.mean(apart),
        "independence_contrast_nats": (columns - volume_g).mean(),
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(card[name], value, rtol=1e-7, atol=1e-10, err_msg=name)
    rest = {"saturation", "encoder_secant", "decoder_secant"}
    angles = {f"orthogonality_distance{end}" for end in ("", "_random", "_rotated")}
    assert set(card) == set(wanted) | rest | angles


def test_linear_model_with_orthogonal_columns():
    """J = diag(2, 1, ½) times an isometry, f its inverse: all is known; turning the code undoes it."""
    card = report_card(linear(np.diag([2.0, 1.0, 0.5]) @ ROTATION), X, KEY)
    known = {
        "encoder_singular_values": [2, 1, 0.5],
        "decoder_singular_values": [2, 1, 0.5],
        "decoder_participation": 5.25**2 / (16 + 1 + 1 / 16),
        "encoder_jacobian_squared": 5.25,
        "decoder_lipschitz": 2,
        "intrinsic_dimension": 3,
        "reconstruction_trace": 3,
        "inverse_error": 0,
        "orthogonality_distance": 0,
        "independence_contrast_nats": 0,
        "metric_condition": 16,
        "metric_variance": 0,
        "decoder_log_volume_nats": 0,
        "log_volume_gap_nats": 0,
    }
    for name, value in known.items():
        np.testing.assert_allclose(card[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
    assert card["decoder_secant"] <= 2 + 1e-9
    assert card["orthogonality_distance_rotated"] > 0.3
    assert 0.5 < card["orthogonality_distance_random"] < 2


def test_isometry_has_condition_one_and_the_volume_of_its_scale():
    card = report_card(linear(3 * ROTATION), X, KEY)
    for name, value in {
        "metric_condition": 1,
        "metric_variance": 0,
        "decoder_log_volume_nats": 3 * np.log(3),
        "encoder_log_volume_nats": -3 * np.log(3),
        "decoder_secant": 3,
        "decoder_participation": 3,
    }.items():
        np.testing.assert_allclose(card[name], value, rtol=1e-6, atol=1e-6, err_msg=name)


def test_random_baseline_is_that_of_the_published_dimension_and_permutations_are_zero():
    """Rotations of six units are 1.92 from the nearest signed permutation (measured elsewhere on digits)."""
    rng = np.random.default_rng(0)
    assert abs(module.distance_to_permutations(module._rotations(rng, 2000, 6)) - 1.92) < 0.05
    signed = np.eye(4)[[2, 0, 3, 1]] * np.asarray([1, -1, -1, 1.0])
    assert module.distance_to_permutations(signed[None]) == 0
    turned = module._rotations(rng, 4000, 3)
    np.testing.assert_allclose(turned @ turned.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turned.shape), atol=1e-12)
    assert abs(turned.mean()) < 0.02


def test_passive_units_are_left_out():
    kernel = np.random.default_rng(0).normal(size=(3, 6))
    inverse = np.linalg.pinv(kernel)
    inverse[:, 1] = 0  # the encoder never moves unit 1
    card = report_card(linear(kernel, inverse), X, KEY)
    assert card["active_units"] == 2
    left = kernel[[0, 2]]
    np.testing.assert_allclose(card["decoder_log_volume_nats"], 0.5 * np.linalg.slogdet(left @ left.T)[1], rtol=1e-6)
    np.testing.assert_allclose(card["inverse_error"], 0, atol=1e-6)


def test_singular_metrics_are_counted_and_left_out():
    kernel = np.random.default_rng(0).normal(size=(3, 6))
    kernel[2] = kernel[0]
    card = report_card(linear(kernel, np.random.default_rng(1).normal(size=(6, 3))), X, KEY)
    assert card["singular_share"] == 1
    assert np.isnan(card["decoder_log_volume_nats"])
    assert np.isfinite(card["decoder_jacobian_squared"])


def test_saturation_is_of_bounded_codes():
    model = made(SHALLOW)
    model.encoder.head.bias[...] = jnp.asarray([50.0, 0.0, -50.0])
    np.testing.assert_allclose(report_card(model, 0.01 * X, KEY)["saturation"], 2 / 3)
    assert "saturation" not in report_card(made(LINEAR), X, KEY)


def test_labels_masks_and_batch_statistics_pass():
    """In evaluation mode running statistics are constants; hidden values have columns of zeros."""
    cfg = dataclasses.replace(
        DEEP, encoder=Dense((5,), norm="batch"), labels="given", posterior=posteriors.NormalPosterior()
    )
    mask = jnp.ones((11, 6), bool).at[:, 2].set(False)
    label = jnp.arange(11) % 3
    model = made(cfg, Sizes((6,), classes=3))
    card = report_card(model, Batch(X, label, mask), KEY)
    moved = report_card(model, Batch(X.at[:, 2].add(9.0), label, mask), KEY)
    assert card["encoder_jacobian_squared"] == moved["encoder_jacobian_squared"]
    assert np.isfinite(card["decoder_jacobian_squared"])


@pytest.mark.parametrize(
    ("change", "x", "key", "error", "words"),
    [
        ({}, X[:1], KEY, ConfigError, "and at least 2 examples"),
        ({}, X, None, ConfigError, "give a key"),
        ({"latent": 7, "encoder": Dense(())}, X, KEY, ConfigError, "got 6 values for 7 units"),
        ({"encoder": Nothing(), "decoder": Dense((4,))}, X, KEY, ConfigError, "needs an encoder"),
        ({}, X.at[4, 2].set(jnp.nan), KEY, ValueError, "1 of 11 Jacobians are not finite, first that of example 4"),
        (
            {"likelihood": likelihoods.BernoulliLikelihood()},
            jnp.zeros((3, 6), jnp.int32),
            KEY,
            ConfigError,
            "int32 symbols",
        ),
    ],
)
def test_what_has_no_report_card_is_named(change, x, key, error, words):
    with pytest.raises(error, match=words) as caught:
        report_card(made(dataclasses.replace(DEEP, **change)), x, key)
    assert "\n" not in str(caught.value)


def test_latent_of_one():
    card = report_card(made(dataclasses.replace(DEEP, latent=1)), X, KEY)
    assert card["orthogonality_distance"] == card["orthogonality_distance_random"] == 0
    np.testing.assert_allclose(card["metric_condition"], 1)
