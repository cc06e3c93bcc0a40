"""What users of JAX reported of Jacobians that took too much memory or time to compile, at the sizes reported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grads

RNG = np.random.default_rng(0)


def memory(fun, *args):
    """Bytes of temporaries and of results, from the compiled program, which need not be run."""
    found = jax.jit(fun).lower(*args).compile().memory_analysis()
    return found.temp_size_in_bytes, found.output_size_in_bytes


@pytest.mark.parametrize(
    "options", [{}, {"memory_limit": 10_000_000}, {"method": "rev_chunked", "memory_limit": 10_000_000}]
)
def test_a_tall_jacobian_pulls_no_basis_of_its_output(options):
    """jax#215: the phase of 20480 visibilities by 20 coordinates took 8 GB (jacrev: 3.6 GB today), J 3.3 MB."""
    lm, uvw, freq = (jnp.asarray(RNG.normal(size=s) * 0.1) for s in ((10, 2), (128, 3), (16,)))

    def phase(lm):
        a, b = lm[:, 0, None, None], lm[:, 1, None, None]
        n = jnp.sqrt(1.0 - a**2 - b**2) - 1.0
        u, v, w = (uvw[None, :, i, None] for i in range(3))
        return (u * a + v * b + w * n) * freq[None, None, :]

    temporary, output = memory(grads.jacobian(phase, **options), lm)
    assert output == 10 * 128 * 16 * 20 * 8
    assert temporary < 10e6


def test_one_output_of_ten_million_inputs():
    """jax#719: a gather of ten rows and a product, summed: jacfwd asks for a basis of 1e7 x 1e7."""
    n = 10_000_000
    index, b = RNG.choice(n, 10, replace=False), jnp.asarray(RNG.random((10, 10)), jnp.float32)
    fun = lambda a: jnp.sum(a[index] @ b)
    a = jnp.ones(n, jnp.float32)
    temporary, output = memory(grads.jacobian(fun), a)
    assert output == 4 * n
    assert temporary < 1e6
    jac = np.asarray(grads.jacobian(fun)(a))
    np.testing.assert_allclose(jac[index], b.sum(1), rtol=1e-5)
    assert np.count_nonzero(jac) == 10
    with pytest.raises(grads.MemoryLimitError, match=r"'fwd' needs about 8e\+14"):
        grads.jacobian(fun, method="fwd", memory_limit=10**9)(a)


def pair_distances(x):
    """The energy of jax#787; the small number keeps the root differentiable at the diagonal."""
    return jnp.sum(jnp.sqrt(jnp.sum((x[None] - x[:, None]) ** 2, axis=-1) + 1e-9))


def test_the_hessian_of_all_pair_distances_fits():
    """jax#787: for 2483 atoms it asked for 551 GB, the Hessian itself being 222 MB."""
    x = jax.ShapeDtypeStruct((2483, 3), jnp.float32)
    for hessian in (
        grads.hessian(pair_distances),
        grads.hessian(pair_distances, chunk_size=8),
        grads.jacobian(jax.grad(pair_distances), memory_limit=1_300_000_000),  # predicted without what XLA fuses
    ):
        temporary, output = memory(hessian, x)
        assert output == (3 * 2483) ** 2 * 4
        assert temporary + output < 1e9
    small = jnp.asarray(RNG.normal(size=(5, 3)))
    want = jax.hessian(pair_distances)(small)
    got = grads.jacobian(jax.grad(pair_distances), memory_limit=20_000)(small)
    np.testing.assert_allclose(got, want, atol=1e-11)


@pytest.mark.parametrize("method", ["auto", "rev", "fwd_chunked", "naive_loop"])
def test_seeds_are_computed_and_not_stored_in_the_program(method):
    """jax#7949: jacrev of a slice of 1000 compiled for 3.3 s, an identity of 8 MB being part of the program."""
    fun, x = lambda x: x[1:], jnp.ones(1000)
    text = jax.jit(grads.jacobian(fun, method=method)).lower(x).as_text()
    assert len(text) < 100_000
    assert len(jax.jit(lambda x: x @ np.eye(1000)).lower(x).as_text()) > 8_000_000  # what it was


def test_a_linear_function_costs_its_matrix():
    """jax#9215: jacfwd of A @ x multiplies A by an identity."""
    a = jnp.asarray(RNG.normal(size=(300, 200)))
    fun, x = lambda x: a @ x, jnp.ones(200)
    program = lambda jac: jax.jit(jac).lower(x).compile().as_text()
    assert " dot(" in program(jax.jacfwd(fun))
    assert " dot(" not in program(grads.jacobian(fun))
    np.testing.assert_array_equal(grads.jacobian(fun)(x), a)
