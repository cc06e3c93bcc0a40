"""No difference from jacfwd and jacrev, where JAX has both, on random functions: 20 here, 1,500 in the campaign.

RANDOM_SEED=N makes the campaign's functions those of the seeds from N on.
"""

import os

import jax
import numpy as np
import pytest

import grads
from tests.grads.testing.random_functions import random_function


def agree(seed: int) -> None:
    """Compare every way of one function, eager and compiled; the name of the seed is in the message."""
    fun, x, ways = random_function(seed)
    forward = "fwd" in ways
    half = any(leaf.dtype.itemsize < 4 for leaf in jax.tree.leaves(x))
    want = jax.jit((jax.jacfwd if forward else jax.jacrev)(fun))(x)
    wants = [want] if len(ways) < 2 else [want, jax.jit(jax.jacrev(fun))(x)]
    gots = [grads.jacobian(fun)(x), *(_named(fun, x, name) for name in (("chain", "rev") if seed % 3 == 0 else ()))]
    # a step in float16 inside rounds tangents and cotangents at different places: jacfwd and jacrev differ by as much
    fine = 2e-3 if "new_dtype=float16" in str(jax.make_jaxpr(fun)(x)) else 2e-4
    for got in filter(lambda g: g is not None, gots):
        for other in wants:
            assert jax.tree.structure(got) == jax.tree.structure(other), seed
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(other), strict=True):
                assert a.shape == b.shape, seed
                # jacfwd's dtype is the output's, and so is ours; jacrev's is the input's
                assert other is not want or not forward or a.dtype == b.dtype, seed
                scale = max(np.max(np.abs(np.asarray(b, np.float64)), initial=0), 1e-3)
                # a reverse reference rounds to the half precision input
                coarse = 2e-2 if half and not (forward and other is want) else fine
                error = np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)), initial=0)
                assert error <= coarse * scale, (seed, error / scale)


def _named(fun, x, name):
    try:
        return grads.jacobian(fun, method=name)(x)
    except grads.UnsupportedMethodError:
        return None


@pytest.mark.parametrize("seed", range(20))
def test_a_random_function(seed):
    agree(seed)


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(15))
def test_a_hundred_random_functions(part):
    first = int(os.environ.get("RANDOM_SEED", "0")) + 100 * part
    for seed in range(first, first + 100):
        agree(seed)
