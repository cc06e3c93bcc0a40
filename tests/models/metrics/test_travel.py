"""Travel on known surfaces (a plane, a sphere) and on decoders: geodesics, maps, distances."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import ConfigError, Sizes, likelihoods
from models.batch import Batch
from models.metrics import travel
from tests.models.terms.test_geometry_terms import DEEP, LINEAR, made

RNG = np.random.default_rng(0)
KERNEL = jnp.asarray(RNG.normal(size=(2, 5)))
FLAT = travel.surface(lambda z: z @ KERNEL)
RADIUS = 2.0


def ball(z):
    """Longitude and latitude to the sphere of radius 2."""
    return RADIUS * jnp.stack(
        [jnp.cos(z[:, 1]) * jnp.cos(z[:, 0]), jnp.cos(z[:, 1]) * jnp.sin(z[:, 0]), jnp.sin(z[:, 1])], 1
    )


SPHERE = travel.surface(ball)
A, B = RNG.uniform([-0.9, -0.9], [0.9, 0.9], (2, 12, 2))


def arc(a, b):
    return RADIUS * np.arccos(np.clip(np.sum(np.asarray(ball(a)) * np.asarray(ball(b)), 1) / RADIUS**2, -1, 1))


def test_on_a_plane_geodesics_are_straight_lines_at_even_speed():
    bent = travel.geodesics(FLAT, A, B, points=7).curve + 0.3 * RNG.normal(size=(12, 7, 2))
    found = travel.geodesics(FLAT, A, B, points=7, start=bent)
    t = np.linspace(0, 1, 7)[None, :, None]
    np.testing.assert_allclose(found.curve, (1 - t) * A[:, None] + t * B[:, None], atol=1e-6)
    length = np.linalg.norm((B - A) @ np.asarray(KERNEL), axis=1)
    np.testing.assert_allclose(found.length, length, rtol=1e-9)
    np.testing.assert_allclose(found.energy, length**2 / 2, rtol=1e-9)
    np.testing.assert_allclose(found.straight_length, length, rtol=1e-9)


def test_on_a_sphere_geodesics_are_great_circles():
    found = travel.geodesics(SPHERE, A, B, points=24, steps=15)
    np.testing.assert_allclose(found.length, arc(A, B), rtol=5e-4)  # chords of 23 parts
    assert (found.straight_length > arc(A, B) * 1.0001).sum() > 6
    normal = np.cross(np.asarray(ball(A)), np.asarray(ball(B)))
    on = np.einsum(
        "npi,ni->np", np.asarray(jax.vmap(ball)(found.curve)), normal / np.linalg.norm(normal, axis=1)[:, None]
    )
    np.testing.assert_allclose(on, 0, atol=2e-4)
    assert np.abs(found.change).max() < 1e-9


def test_straight_ahead_on_a_sphere_is_a_great_circle():
    v = RNG.normal(size=(12, 2))
    path = travel.exponential(SPHERE, A, v, steps=64)
    start, velocity = jax.jvp(ball, (jnp.asarray(A),), (jnp.asarray(v),))
    angle = np.linalg.norm(velocity, axis=1, keepdims=True) / RADIUS
    wanted = np.cos(angle) * start + np.sin(angle) / angle * velocity
    np.testing.assert_allclose(ball(path[:, -1]), wanted, atol=1e-4)
    half = np.asarray(ball(path[:, 32]))
    np.testing.assert_allclose(half, np.cos(angle / 2) * start + np.sin(angle / 2) / angle * velocity, atol=1e-4)
    line = travel.exponential(FLAT, A, v, steps=3)
    np.testing.assert_allclose(line[:, -1], A + v, rtol=1e-10)


def test_geodesics_and_the_exponential_map_invert_each_other():
    found = travel.geodesics(SPHERE, A, B, points=24, steps=15)
    v = 23 * (-1.5 * found.curve[:, 0] + 2 * found.curve[:, 1] - 0.5 * found.curve[:, 2])  # second order in 1 / 23
    np.testing.assert_allclose(travel.exponential(SPHERE, A, v)[:, -1], B, atol=2e-2)


def test_magnification_and_ellipses_of_the_sphere():
    np.testing.assert_allclose(travel.magnification(SPHERE, A), np.log(RADIUS**2 * np.cos(A[:, 1])), rtol=1e-9)
    steps = travel.indicatrices(SPHERE, A[:3], angles=16)
    at = jnp.repeat(jnp.asarray(A[:3]), 16, 0)
    pushed = jax.jvp(ball, (at,), (jnp.asarray(steps.reshape(-1, 2)),))[1]
    np.testing.assert_allclose(np.linalg.norm(pushed, axis=1), 1, rtol=1e-6)
    z = travel.grid(np.array([[0.0, 5, 1], [1, 7, 1]]), 3, margin=0.0, dims=(1, 0))
    np.testing.assert_allclose(z[[0, 2, -1]], [[0, 5, 1], [0, 7, 1], [1, 7, 1]])


def test_distances_for_neighbours_and_clusters():
    """The matrix is that of great circles; the graph's paths are never shorter, and as short to the nearest."""
    full = travel.distance_matrix(SPHERE, A, points=24, steps=15)
    i, j = np.triu_indices(12, 1)
    np.testing.assert_allclose(full[i, j], arc(A[i], A[j]), rtol=2e-3)
    np.testing.assert_array_equal(full, full.T)
    graph = travel.distance_matrix(SPHERE, A, neighbours=6, points=24, steps=15)
    assert (graph >= full - 1e-6).all()
    assert (graph <= 1.5 * full).all()
    np.testing.assert_allclose(np.sort(graph, 1)[:, 1], np.sort(full, 1)[:, 1], rtol=1e-6)
    twins = travel.distance_matrix(FLAT, np.repeat(A[:2], 2, 0), neighbours=2, points=3)
    assert twins[0, 1] < 1e-12
    np.testing.assert_allclose(twins[0, 2], np.linalg.norm((A[1] - A[0]) @ np.asarray(KERNEL)), rtol=1e-6)
    from sklearn.neighbors import KNeighborsClassifier

    labels = (A[:, 0] > 0).astype(int)
    assert KNeighborsClassifier(1, metric="precomputed").fit(full, labels).score(full, labels) == 1


def test_decoders_against_a_long_reference():
    """Energy within 1 % of 3,000 steps of gradient descent with momentum from the same line, for every pair."""
    model = made(DEEP)
    z = np.asarray(2 * RNG.normal(size=(2, 8, 3)))
    surface = travel.surface(model)
    found = travel.geodesics(surface, *z, points=10, steps=20)
    assert (found.energy < 0.999 * found.straight_energy).any()

    def descend(curve):
        slope = jax.grad(lambda c: travel.curve_energy(surface, c).sum())

        def step(state, _):
            c, m = state
            m = 0.9 * m - 0.01 * slope(c).at[:, jnp.array([0, -1])].set(0)
            return (c + m, m), None

        return jax.lax.scan(step, (curve, jnp.zeros_like(curve)), None, 3000)[0][0]

    line = jnp.linspace(0, 1, 10)[None, :, None]
    reference = jax.jit(descend)((1 - line) * z[0][:, None] + line * z[1][:, None])
    energy = np.asarray(travel.curve_energy(surface, reference))
    assert (found.energy <= 1.01 * energy).all()
    np.testing.assert_allclose(found.curve[:, [0, -1]], np.stack(z, 1), rtol=1e-6)


def test_expected_metric_adds_that_of_the_deviation():
    z = jnp.asarray(A[:3])
    for likelihood in (likelihoods.BernoulliLikelihood(), likelihoods.NormalLikelihood()):
        model = made(dataclasses.replace(DEEP, latent=2, likelihood=likelihood))

        def both(z, model=model):
            p = model.decode(z[None])
            deviation = jnp.sqrt(p.mean * (1 - p.mean)) if hasattr(p, "logits") else jnp.exp(p.log_std) + 0 * p.mean
            return p.mean[0], deviation[0]

        j_mean, j_spread = jax.jit(jax.vmap(jax.jacfwd(both)))(z)
        g = jnp.swapaxes(j_mean, 1, 2) @ j_mean + jnp.swapaxes(j_spread, 1, 2) @ j_spread
        found = travel.magnification(travel.surface(model, "expected"), z)
        np.testing.assert_allclose(found, 0.5 * np.linalg.slogdet(g)[1], rtol=1e-7)
    x = jax.random.uniform(jax.random.key(3), (40, 6))
    spread = travel.fit_spread(model, x, centres=4, far=3.0)
    codes = model.encode(x).mean
    assert float(spread(codes).mean()) < 2
    np.testing.assert_allclose(spread(codes[:1] + 1e3), 3, rtol=1e-6)
    both = travel.surface(model, "expected", spread=spread)(codes)
    np.testing.assert_allclose(both, jnp.concatenate([model.decode(codes).mean, spread(codes)], 1), rtol=1e-9)


def test_labels_are_those_of_the_surface():
    model = made(dataclasses.replace(DEEP, labels="given"), Sizes((6,), classes=3))
    z = RNG.normal(size=(2, 3))
    for label in (0, 2):
        wanted = model.decode(jnp.asarray(z), None, jnp.full(2, label)).mean
        np.testing.assert_allclose(travel.surface(model, label=label)(jnp.asarray(z)), wanted, rtol=1e-9)
    assert Batch(X := z).size == len(X)
    with pytest.raises(ConfigError, match="give label, a number from 0 to 2, got None"):
        travel.surface(model)


def test_points_and_folds_have_a_stated_fallback():
    """A surface of one point keeps the straight line, one unit has geodesics too, equal ends have length 0."""
    still = travel.geodesics(travel.surface(lambda z: 0 * z), A, B, points=5)
    assert (still.length == 0).all()
    np.testing.assert_allclose(still.curve[:, 2], (A + B) / 2)
    folded = travel.surface(lambda z: z[:, :1] @ KERNEL[:1])  # J has rank 1 of 2
    assert np.isfinite(travel.geodesics(folded, A, B, points=5, steps=3).energy).all()
    assert (travel.magnification(folded, A) < -30).all()
    with pytest.raises(ValueError, match="12 of 12 walks are not finite, first number 0: the metric is singular"):
        travel.exponential(folded, A, B)
    line = travel.geodesics(travel.surface(lambda z: jnp.concatenate([z, z**3], 1)), A[:, :1], B[:, :1], points=5)
    assert np.isfinite(line.length).all()
    np.testing.assert_array_equal(travel.distances(SPHERE, A, A, points=24, steps=15), 0)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: travel.geodesics(FLAT, A, B[:3]), ValueError, "all alike; got"),
        (lambda: travel.geodesics(FLAT, A, B * np.nan), ValueError, "12 of 12 codes are not finite"),
        (lambda: travel.geodesics(FLAT, A, B, points=2), ValueError, "at least 3"),
        (lambda: travel.geodesics(travel.surface(jnp.log), A, B), ValueError, "not finite on the way"),
        (lambda: travel.distance_matrix(FLAT, A, neighbours=12), ValueError, "must lie in 1..11, got 12"),
        (lambda: travel.indicatrices(FLAT, RNG.normal(size=(2, 3))), ValueError, "codes of 2 units, got 3"),
        (lambda: travel.surface(made(dataclasses.replace(LINEAR, latent=7))), ConfigError, "got 6 values for 7 units"),
        (
            lambda: travel.surface(
                made(dataclasses.replace(DEEP, likelihood=likelihoods.LaplaceLikelihood())), "expected"
            ),
            ConfigError,
            "normal and bernoulli likelihoods, got laplace",
        ),
        (lambda: travel.fit_spread(made(DEEP), np.zeros((3, 6)), centres=4), ConfigError, "of 4 centres needs"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
