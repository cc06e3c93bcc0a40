"""One test of the right value for each fault that public problems and random functions brought to light."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grads

close = np.testing.assert_allclose
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("method", ["auto", "rev", "rev_chunked", "chain", "fwd"])
@pytest.mark.parametrize("moved", [False, True])
def test_a_half_precision_input_does_not_round_the_jacobian(dtype, method, moved):
    x = jnp.linspace(0.1, 1.0, 40).astype(dtype)
    weights = jnp.asarray(RNG.normal(size=(40, 2)), jnp.float32)

    def fun(x):
        x = x.reshape(2, 20)[::-1].T.ravel() if moved else x
        return jnp.sin(3 * x.astype(jnp.float32)) @ weights

    got, want = grads.jacobian(fun, method=method)(x), jax.jacfwd(fun)(x)
    assert got.dtype == want.dtype == jnp.float32
    close(got, want, atol=1e-6)  # the input's precision is 4e-3 and 5e-4


def scalar(x):
    return jnp.sum(jnp.sin(x) * jnp.roll(x, 1))


@pytest.mark.parametrize("transform", [jax.jit, lambda f: lambda x: jax.vmap(f)(x[None])[0]])
def test_a_wrong_hessian_pattern_leaves_no_zero(transform):
    x, pattern = jnp.linspace(0.1, 1.0, 6), np.eye(6, dtype=bool)
    assert np.all(np.isnan(transform(grads.hessian(scalar, sparsity=pattern))(x)))
    data = transform(lambda x: grads.hessian(scalar, sparsity=pattern, output="bcoo")(x).data)(x)
    assert np.all(np.isnan(data))
    right = grads.hessian(scalar, sparsity=np.ones((6, 6), bool))
    close(transform(right)(x), jax.hessian(scalar)(x), atol=1e-6)


def test_a_refuted_claim_leaves_no_zero_in_any_form():
    x, pattern = jnp.linspace(0.1, 1.0, 6), np.eye(6, dtype=bool)
    for output in ("dense", "transposed"):
        wrong = jax.jit(grads.jacobian(jax.grad(scalar), method=grads.sparse(pattern), output=output))(x)
        assert np.all(np.isnan(wrong))
        mixed = jax.jit(grads.jacobian(lambda x: x * jnp.flip(x, 0), batch_axis=0, output=output))(x.reshape(3, 2))
        assert np.all(np.isnan(mixed))


@pytest.mark.parametrize("index", [jnp.array([1, 3, 3, 0, 2, 5]), jnp.array([0, 1, 2, 3, 4, 9])])
def test_a_scatter_of_a_value_into_itself(index):
    fun = lambda x: x.at[index].add(x)
    x = jnp.linspace(0.1, 1.0, 6)
    want = jax.jacfwd(fun)(x)
    close(grads.jacobian(fun, method="sparse")(x), want)
    found = grads.jacobian_sparsity(fun, x).dense()
    np.testing.assert_array_equal(found, np.asarray(want) != 0)


def stencil(x):
    return jnp.roll(x, 1) - 2 * x + jnp.roll(x, -1) + x**3


def test_functionals_of_a_large_stencil_form_no_matrix(monkeypatch):
    x = jnp.linspace(0.0, 1.0, 6000)
    operator = grads.jacobian_operator(stencil, x)
    monkeypatch.setattr(operator, "_factor", lambda: pytest.fail("J was formed"))
    diagonal = -2 + 3 * x**2
    assert operator.diagonal().exact
    close(operator.diagonal(method="exact").value, diagonal, rtol=1e-5)
    close(operator.trace(key=jax.random.key(0)).value, jnp.sum(diagonal), rtol=1e-5)


def test_the_rank_is_read_off_shapes():
    waist = jnp.asarray(RNG.normal(size=(50, 3)))
    operator = grads.jacobian_operator(lambda x: jnp.tanh(x @ waist) @ waist.T, jnp.ones(50))
    assert operator.rank == 3
    assert "factored" not in vars(operator)


def test_functionals_of_a_diagonal_form_no_matrix():
    x = jnp.linspace(0.1, 1.0, 60_000)  # n x n would be 14 GB or more
    operator = grads.jacobian_operator(jnp.sin, x)
    close(operator.diagonal(method="exact").value, jnp.cos(x), rtol=1e-5)
    close(operator.trace(method="exact").value, jnp.cos(x).sum(), rtol=1e-5)
    close(operator.row_norms(method="exact").value, jnp.cos(x), rtol=1e-5)
    close(operator.frobenius(squared=True, method="exact").value, jnp.sum(jnp.cos(x) ** 2), rtol=1e-5)


def test_bcoo_of_auto_stores_the_pattern_only():
    x = jnp.linspace(0.0, 1.0, 300)
    found = grads.jacobian(stencil, output="bcoo")(x)
    assert found.nse == 900
    close(found.todense(), jax.jacfwd(stencil)(x), rtol=1e-6)
    index = jnp.arange(300)[::-1]
    gathered = lambda x, i: x[i] ** 2  # the values of indices decide: no program of other indices is reused
    for i in (index, index // 2):
        close(grads.jacobian(gathered, output="bcoo")(x, i).todense(), jax.jacfwd(gathered)(x, i), rtol=1e-6)


@jax.custom_vjp
def reverse_only(x):
    return jnp.sin(x)


reverse_only.defvjp(lambda x: (reverse_only(x), x), lambda x, g: (g * jnp.cos(x),))


def test_products_with_a_function_that_only_goes_in_reverse():
    x = jnp.linspace(0.1, 1.0, 6)
    loss, plain = (lambda x: jnp.sum(reverse_only(x) ** 2)), lambda x: jnp.sum(jnp.sin(x) ** 2)
    close(grads.hvp(loss, x, x), grads.hvp(plain, x, x), rtol=1e-5)
    close(grads.metric(reverse_only, x), np.diag(np.cos(x) ** 2), atol=1e-6)
    for way, call in (
        ("use vjp", lambda: grads.jvp(reverse_only, x, x)),
        ("vhp", lambda: grads.gauss_newton_product(reverse_only, jnp.sum, x, x)),
        ("use method='factored'", lambda: grads.metric(reverse_only, x, method="jvps")),
        ("mode='rev_over_rev'", lambda: grads.hessian(loss)(x)),
        ("rmv", lambda: grads.jacobian_operator(reverse_only, x) @ x),
    ):
        with pytest.raises(TypeError, match=f"no forward derivative.*{way}"):
            call()


@pytest.mark.parametrize("method", ["auto", "rev", "rev_chunked", "chain", "fwd"])
def test_inside_shard_map(method):
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec, weights = jax.sharding.PartitionSpec("i"), jnp.asarray(RNG.normal(size=(3, 2)))
    x = jnp.linspace(0.0, 1.0, 6).reshape(2, 3)
    fun = lambda v: jnp.tanh(v @ weights).sum(0)
    one = jax.shard_map(grads.jacobian(fun, method=method), mesh=mesh, in_specs=spec, out_specs=spec)
    close(jax.jit(one)(x), jax.jacfwd(fun)(x), rtol=1e-6)
    each = jax.vmap(grads.jacobian(lambda v: jnp.tanh(v @ weights), method=method))
    got = jax.jit(jax.shard_map(each, mesh=mesh, in_specs=spec, out_specs=spec))(x)
    close(got, jax.vmap(jax.jacfwd(lambda v: jnp.tanh(v @ weights)))(x), rtol=1e-6)


def test_inside_shard_map_with_respect_to_a_replicated_input():
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    P = jax.sharding.PartitionSpec
    x, w = jnp.linspace(0.0, 1.0, 6).reshape(2, 3), jnp.linspace(0.5, 1.0, 3)
    local = lambda x, w: grads.jacobian(lambda w: jnp.tanh(x @ w)[:1])(w)
    got = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(P("i"), P()), out_specs=P("i")))(x, w)
    close(got, jax.jacfwd(lambda w: jnp.tanh(x @ w)[:1])(w), rtol=1e-6)


def test_a_jitted_function_is_not_walked_again(monkeypatch):
    scale = jnp.linspace(1.0, 2.0, 5)
    fun = jax.jit(lambda x: jnp.sin(x * scale) * x.sum())
    J, x = grads.jacobian(fun), jnp.linspace(0.1, 1.0, 5)
    first = J(x)
    from grads.methods import evaluate

    monkeypatch.setattr(evaluate, "opened_graph", lambda closed: pytest.fail("the program was walked again"))
    close(J(x), first)
    close(J(2 * x), jax.jacfwd(fun)(2 * x), rtol=1e-6)


def test_a_short_key_tells_closed_over_values_apart():
    inner = jax.jit(lambda x, s: jnp.sin(x * s))
    x = jnp.linspace(0.1, 1.0, 5)
    for s in (jnp.ones(5), jnp.arange(5.0), jnp.arange(5.0) + 1):
        close(grads.jacobian(lambda x, s=s: inner(x, s))(x), jax.jacfwd(lambda x, s=s: inner(x, s))(x), rtol=1e-6)
    half = jax.jit(lambda x: jnp.sin(x.astype(jnp.float32)))
    for _ in range(2):
        narrow = x.astype(jnp.bfloat16)
        close(grads.jacobian(half, method="rev")(narrow), jax.jacfwd(half)(narrow), atol=1e-6)


def test_an_equation_solver_is_not_compiled_at_every_call():
    from jax.experimental.ode import odeint

    from grads.programs.fingerprint import fingerprint
    from grads.programs.graph import trace

    def key(rate):
        solve = lambda x: [odeint(lambda y, t: -rate * y, x, jnp.linspace(0.0, 1.0, 2))[-1]]
        return fingerprint(trace(solve, [jnp.ones(2)])[0])

    assert key(0.5) == key(0.5)
    assert key(0.5) != key(0.7)
