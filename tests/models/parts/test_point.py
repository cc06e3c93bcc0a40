"""k-sparse codes: so many units stay, of every code or of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import posteriors

Z = jnp.asarray(np.random.default_rng(0).normal(size=(6, 10)))
KEY = jax.random.key(0)


@pytest.mark.parametrize(("among", "key"), [("code", None), ("code", KEY), ("batch", None)])
def test_so_many_units_of_every_code_stay(among, key):
    posterior = posteriors.PointPosterior(active=3, among=among)
    z = posterior(Z, None, key).mean
    assert np.all(np.sum(np.asarray(z) != 0, axis=1) == 3)
    np.testing.assert_array_equal(np.sort(z, axis=1)[:, -3:].clip(0), np.sort(Z, axis=1)[:, -3:].clip(0))


def test_so_many_units_of_the_batch_stay_in_training():
    z = np.asarray(posteriors.PointPosterior(active=3, among="batch")(Z, None, KEY).mean)
    assert np.sum(z != 0) == 3 * len(Z)
    assert z[z != 0].min() >= np.asarray(Z)[z == 0].max()
    assert len(set(np.sum(z != 0, axis=1))) > 1
