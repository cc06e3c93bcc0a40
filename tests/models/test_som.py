"""Self-organising maps against cases whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import SOM, som

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (300, 3)) * jnp.asarray([[3.0, 1.0, 0.2]]) + 5.0


@pytest.mark.parametrize("rule", ["batch", "online"])
def test_one_unit_is_the_mean(rule):
    fitted = som(X, 1, 1, KEY, rule=rule, rate=(0.01, 1e-4), epochs=5)
    np.testing.assert_allclose(fitted.units[0, 0], X.mean(0), atol=1e-9 if rule == "batch" else 0.1)
    wanted = np.linalg.norm(X - fitted.units[0, 0][None], axis=1).mean()
    np.testing.assert_allclose(fitted.quantisation_error(X), wanted, rtol=1e-6)
    assert fitted.topographic_error(X) == 0


def test_a_batch_epoch_is_the_weighted_mean_and_without_neighbours_that_of_k_means():
    start = np.asarray(som(X, 2, 2, KEY, epochs=1, radius=(1e9, 1e9)).units)  # all neighbours alike: the mean
    np.testing.assert_allclose(start, np.broadcast_to(X.mean(0), (2, 2, 3)), rtol=1e-6)
    fitted = np.asarray(som(X, 2, 2, KEY, epochs=200, radius=(1e-3, 1e-3)).units).reshape(4, 3)
    nearest = ((np.asarray(X)[:, None] - fitted[None]) ** 2).sum(2).argmin(1)
    for unit in range(4):  # a fixed point of Lloyd's iteration
        np.testing.assert_allclose(fitted[unit], X[nearest == unit].mean(0), rtol=1e-6)


def test_errors_by_hand():
    line = SOM(jnp.asarray([[[0.0], [1.0], [10.0], [2.0]]]))  # the third unit is out of its place
    x = jnp.asarray([[0.1], [1.6], [9.0], [2.5]])
    both, distance = line.nearest(x)
    np.testing.assert_array_equal(both, [[0, 1], [3, 1], [2, 3], [3, 1]])
    np.testing.assert_allclose(distance, [0.1, 0.4, 1.0, 0.5], rtol=1e-6)
    np.testing.assert_allclose(line.quantisation_error(x), 0.5, rtol=1e-6)
    np.testing.assert_allclose(line.topographic_error(x), 0.5)
    np.testing.assert_array_equal(line.encode(x), [[0, 0], [0, 3], [0, 2], [0, 3]])
    np.testing.assert_array_equal(line.decode(line.encode(x))[:, 0], [0, 2, 10, 2])


@pytest.mark.parametrize("rule", ["batch", "online"])
def test_a_square_unfolds(rule):
    """Uniform on a square inside 5 dimensions: no folds, every unit used, and an error near that of a 6 x 6 lattice."""
    flat = jax.random.uniform(jax.random.key(1), (2000, 2))
    x = flat @ jnp.linalg.qr(jax.random.normal(KEY, (5, 5)))[0][:2]
    fitted = som(x, 6, 6, KEY, rule=rule, epochs=20 if rule == "batch" else 4)
    assert fitted.topographic_error(x) < 0.05
    assert len(np.unique(fitted.nearest(x)[0][:, 0])) == 36
    assert (
        fitted.quantisation_error(x) < 1.25 * 0.3826 / 6
    )  # of a square cell of side 1/6, its mean distance from the middle


@pytest.mark.parametrize("bad", [{"height": 0}, {"epochs": 0}, {"radius": (1.0, 0.0)}, {"rate": (2.0, 0.1)}])
def test_bad_sizes_are_one_line(bad):
    with pytest.raises(ValueError, match="a map needs") as caught:
        som(X, **({"height": 2, "width": 2, "key": KEY} | bad))
    assert "\n" not in str(caught.value)
