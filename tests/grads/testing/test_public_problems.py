"""No difference from jacfwd and jacrev on 25 problems in the manner of public collections, by every method that can."""

import jax
import numpy as np
import pytest

import grads
from tests.grads.testing.public_problems import PROBLEMS


@pytest.mark.campaign
@pytest.mark.parametrize("name", PROBLEMS)
def test_no_difference(name):
    fun, x = PROBLEMS[name]
    flat = lambda tree: np.concatenate([np.ravel(block) for block in jax.tree.leaves(tree)])
    wants = [flat(jax.jit(transform(fun))(x)) for transform in (jax.jacfwd, jax.jacrev)]
    np.testing.assert_allclose(wants[0], wants[1], rtol=1e-8, atol=1e-10)
    for method in ("auto", "chain", "fwd_chunked", "rev_chunked", "elimination"):
        try:
            got = jax.jit(grads.jacobian(fun, method=method))(x)
        except grads.UnsupportedMethodError:
            assert method not in ("auto", "fwd_chunked", "rev_chunked")
            continue
        assert jax.tree.structure(got) == jax.tree.structure(jax.eval_shape(jax.jacfwd(fun), x))
        np.testing.assert_allclose(flat(got), wants[0], rtol=1e-8, atol=1e-10, err_msg=method)
