"""What a program selects is all that is differentiated; the block of active entries is that of the whole Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grads
from grads.matrices.factored import DenseFactor, DiagonalFactor, SelectionFactor, multiply
from grads.methods.chain import segments_of
from tests.grads.methods.test_chain import dots, problem_of

RNG = np.random.default_rng(0)
W, V, X = (jnp.asarray(RNG.normal(size=s)) for s in ((60, 8), (8, 60), (60,)))
AT = jnp.asarray([3, 59, 3, 0])
OUT = jnp.asarray([1, 70, 5, 5])


def sparse_code(x, k=5):
    a = jnp.tanh(x @ W) @ V
    values, places = jax.lax.top_k(a, k)
    return jnp.zeros_like(a).at[places].set(jax.nn.relu(values))


SELECTING = {
    "reversed": (lambda a: a[::-1], "select"),
    "sliced": (lambda a: a[1:50:7], "select"),
    "turned": (lambda a: a.reshape(6, 10).T, "select"),
    "gathered": (lambda a: a[AT], "select"),
    "filled past the end": (lambda a: a.at[OUT].get(mode="fill", fill_value=7.0), "select"),
    "sorted": (jnp.sort, "select"),
    "top-k of rows": (lambda a: jax.lax.top_k(a.reshape(6, 10), 2)[0], "select"),
    "in the order of another": (lambda a: jax.lax.sort((jnp.cos(X), a), num_keys=1)[1], "general"),
    "padded": (lambda a: jnp.pad(a, (2, 3)), "spread"),
    "placed": (lambda a: jnp.ones(90).at[jnp.arange(60) * 4 % 90].set(a), "spread"),
    "added": (lambda a: jnp.ones(9).at[jnp.arange(60) % 10].add(a, mode="drop"), "spread"),
    "beside ones": (lambda a: jnp.concatenate([jnp.ones(2), a, jnp.ones(1)]), "spread"),
    "code": (sparse_code, "spread"),
    "added to itself": (lambda a: a.at[AT].add(a[AT]), "general"),
}


def test_selections_are_seen_and_right():
    full = lambda move: lambda x: jnp.sin(move(jnp.tanh(x) * X)) @ jnp.ones((move(X).shape[-1], 3))
    functions = {name: full(move) for name, (move, _) in SELECTING.items()}
    functions["pulled"] = lambda x: jnp.cumsum(x[:50])[jnp.arange(40, 0, -1)]
    for name, (_, kind) in SELECTING.items():
        assert kind in [s.kind for s in segments_of(problem_of(functions[name], X))], name
    found = jax.jit(lambda x: {name: grads.jacobian(fun, method="chain")(x) for name, fun in functions.items()})(X)
    expected = jax.jit(lambda x: {name: jax.jacfwd(fun)(x) for name, fun in functions.items()})(X)
    for name in functions:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-12, err_msg=name)


def test_a_selection_seeds_what_follows():
    fun, x = lambda x: jnp.cumsum(jnp.outer(x[jnp.asarray([2, 0, 3, 1])], X[:4])), X[:4]
    np.testing.assert_allclose(grads.jacobian(fun, method="chain")(x), jax.jacfwd(fun)(x), atol=1e-12)


def test_products_of_selections():
    pick = SelectionFactor(jnp.asarray([2, 0, 4, 2]), jnp.asarray([1.0, 2.0, 3.0, -1.0]), 4)
    put = SelectionFactor(jnp.asarray([1, 3, 4, 3]), jnp.asarray([2.0, 1.0, 5.0, 4.0]), 4, transposed=True)
    square = jnp.asarray(RNG.normal(size=(4, 4)))
    factors = [pick, pick.T, put, put.T, DiagonalFactor(square[0]), DenseFactor(square), DenseFactor(square, True)]
    for a in factors:
        for b in factors:
            np.testing.assert_allclose(multiply(a, b).matrix, a.matrix @ b.matrix, atol=1e-12)


def test_only_selected_rows_are_multiplied():
    chosen = jax.make_jaxpr(grads.jacobian(lambda x: (jnp.tanh(x @ W) @ V)[AT]))(X).jaxpr
    whole = jax.make_jaxpr(grads.jacobian(lambda x: jnp.tanh(x @ W) @ V))(X).jaxpr
    forward = 2 * (60 * 8 + 8 * 60)  # the values, which both need
    assert dots(chosen) - forward == 2 * 4 * 8 * 60
    assert dots(whole) - forward == 2 * 60 * 8 * 60


def test_active_block_is_the_block_of_the_jacobian():
    many = jnp.stack([sparse_code(X), X, -X])
    code, jacobians = many[0], jax.jit(jax.vmap(jax.jacfwd(sparse_code)))(many)
    whole = jacobians[0]
    block = grads.active_block(sparse_code, code, rows=5, columns=5)
    np.testing.assert_allclose(block.values, whole[block.rows][:, block.columns], atol=1e-12)
    assert set(block.columns.tolist()) == set(jnp.nonzero(code)[0].tolist())
    assert not np.delete(whole, block.rows, 0).any()
    given = lambda x, rows: grads.active_block(sparse_code, x, rows=rows, columns=jnp.asarray([7, 2])).values
    found = jax.jit(jax.vmap(given, (0, None)))(many, AT)
    np.testing.assert_allclose(found, jacobians[:, AT][:, :, jnp.asarray([7, 2])], atol=1e-12)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"rows": 61}, ValueError, "rows=61: there are 60 entries"),
        ({"columns": 0}, ValueError, "columns=0: there are 60"),
        ({"rows": jnp.asarray([1, 60])}, ValueError, "rows holds place 60, and there are 60 entries"),
        ({"columns": jnp.asarray([[1]])}, TypeError, "columns is a number of entries or a vector of places"),
        ({"x": jnp.arange(60)}, TypeError, "floating point inputs, got dtype int64"),
    ],
)
def test_refused(how, error, message):
    x = how.pop("x", X)
    with pytest.raises(error, match=message):
        grads.active_block(sparse_code, x, **({"rows": 2, "columns": 2} | how))
