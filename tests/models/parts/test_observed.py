"""Unobserved values have no part in what a batch is judged by."""

import jax.numpy as jnp
import numpy as np

from models.distributions import Normal, OptimalNormal

RNG = np.random.default_rng(0)


def test_the_optimal_scale_is_that_of_the_observed_values():
    """Against a search: no other scale gives the observed values of the batch a higher density."""
    x, mean = (jnp.asarray(RNG.normal(size=(6, 5))) for _ in range(2))
    mask = jnp.asarray(RNG.random((6, 5)) < 0.6)
    best = jnp.sum(OptimalNormal(mean, jnp.zeros((1, 1))).log_prob(x, mask))
    others = [float(jnp.sum(Normal(mean, jnp.full((1, 1), s)).log_prob(x, mask))) for s in np.linspace(-2, 2, 401)]
    np.testing.assert_allclose(best, max(others), atol=1e-3)
    assert best >= max(others)
    hidden = jnp.where(mask, x, 1e6)
    seen, blind = (OptimalNormal(mean, jnp.zeros((1, 1))).log_prob(values, mask) for values in (x, hidden))
    np.testing.assert_array_equal(seen, blind)
