"""Patterns hold every nonzero, colourings separate, coloured Jacobians are exact, wrong patterns caught."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grads import (
    Pattern,
    UnsupportedMethodError,
    WrongPatternError,
    check_pattern,
    jacobian,
    jacobian_sparsity,
    sparse,
)
from grads.matrices.pattern import colour_columns, colour_rows
from grads.testing.catalogue import catalogue, problem
from grads.testing.sparse import brusselator, brusselator_pattern

CASES = catalogue(without=("complex", "mixed_dtype"))


def flat_jacobian(case):
    """The analytic Jacobian as one matrix, by the order of the leaves."""
    out = jax.eval_shape(case.fun, *case.args)
    blocks = jax.tree.structure(out).flatten_up_to(case.jacobian(*case.args))
    return np.vstack(
        [
            np.hstack([np.reshape(a, (y.size, np.size(a) // max(y.size, 1))) for a in jax.tree.leaves(block)])
            for y, block in zip(jax.tree.leaves(out), blocks, strict=True)
        ]
    )


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_structural_pattern_holds_every_nonzero(case):
    got = jacobian_sparsity(lambda x: case.fun(x, *case.args[1:]), case.args[0])
    want = flat_jacobian(case) != 0
    assert got.shape == want.shape
    assert not np.any(want & ~got.dense())
    if {"sparse", "batch"} & case.tags and case.name != "sort":
        np.testing.assert_array_equal(got.dense(), want)


OPERATIONS = {
    "roll": lambda x: jnp.roll(x, 2),
    "take": lambda x: x[jnp.asarray([0, 0, 3, 1, 2, 5])],
    "pad": lambda x: jnp.pad(x, (1, 2), mode="reflect")[1:-2],
    "dilate": lambda x: jax.lax.pad(x, 0.0, ((1, -1, 1),))[::2],
    "product": lambda x: (x.reshape(2, 3) @ jnp.ones((3, 3))).reshape(-1),
    "einsum": lambda x: jnp.einsum("bi,bij->jb", x.reshape(2, 3), jnp.ones((2, 3, 3))).reshape(-1),
    "both": lambda x: (x.reshape(3, 2) @ x.reshape(2, 3)).reshape(-1)[:6],
    "mean": lambda x: x.reshape(2, 3) - x.reshape(2, 3).mean(1, keepdims=True),
    "relu": jax.nn.relu,
    "remat": jax.checkpoint(lambda x: x * x[::-1]),
    "where": lambda x: jnp.where(x > 0, x, 2 * jnp.flip(x)),
    "scan": lambda x: jax.lax.scan(lambda c, u: (c + u, c * u), x[0], x)[1],
    "slice": lambda x: jax.lax.dynamic_slice(jnp.tile(x, 2), (3,), (6,)),
    "cumulative": lambda x: jnp.cumsum(x.reshape(2, 3), 0),
    "add_at": lambda x: jnp.concatenate([x[:1], jnp.zeros(5)]).at[jnp.asarray([1, 4, 4])].add(x[3:]),
    "prod": lambda x: jnp.outer(x[:2], x[3:]).reshape(-1),
}


@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=4), st.integers(0, 1000))
def test_pattern_of_random_programs(names, seed):
    def fun(x):
        for name in names:
            x = OPERATIONS[name](x.reshape(6)) * 1.5
        return x

    x = jnp.asarray(np.random.default_rng(seed).normal(size=6))
    want = np.asarray(jax.jit(jax.jacfwd(lambda x: fun(x).reshape(-1)))(x)) != 0
    assert not np.any(want & ~jacobian_sparsity(fun, x).dense())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 12), st.integers(0, 12), st.floats(0, 1))
def test_colours_separate(seed, m, n, density):
    pattern = Pattern.of(np.random.default_rng(seed).random((m, n)) < density)
    for colours, dense in (
        (colour_columns(pattern), pattern.dense()),
        (colour_rows(pattern), pattern.dense().T),
    ):
        for colour in range(colours.max(initial=-1) + 1):
            assert np.all(dense[:, colours == colour].sum(1) <= 1)


@pytest.mark.parametrize("mode", ["fwd", "rev", "auto"])
@pytest.mark.parametrize("name", ["tridiagonal", "arrow", "scatter", "batched"])
def test_coloured_jacobian_is_the_analytic_one(name, mode):
    case = problem(name)
    fun = lambda x: case.fun(x, *case.args[1:])
    pattern = jacobian_sparsity(fun, case.args[0])
    chunk = 2 if mode == "auto" else None
    got = jacobian(fun, method=sparse(pattern, mode=mode, chunk_size=chunk))(case.args[0])
    want = case.jacobian(*case.args)
    np.testing.assert_allclose(got, want, atol=1e-13 * np.max(np.abs(want)))


def test_number_of_products_is_the_number_of_colours():
    x = jnp.ones(2 * 6**2)
    got = jacobian(brusselator, method="sparse", output="bcoo")(x)
    assert got.data.shape == (6 * x.size,)
    jaxpr = str(jax.make_jaxpr(jacobian(brusselator, method="sparse", output="bcoo"))(x))
    assert f"{x.size},{x.size}" not in jaxpr  # nothing dense
    colours = colour_columns(Pattern.at(*brusselator_pattern(6), (x.size, x.size))).max() + 1
    assert f"f64[{colours},{x.size}]" in jaxpr


def test_arrow_takes_rows_when_that_is_cheaper():
    fun = lambda x: jnp.concatenate([x[1:] * x[0], jnp.sum(x)[None]])  # a full column and a full row
    x = jnp.arange(1.0, 7)
    np.testing.assert_allclose(jacobian(fun, method=sparse(jacobian_sparsity(fun, x)))(x), jax.jacfwd(fun)(x))


def test_wrong_patterns_are_caught():
    case = problem("tridiagonal")
    (x,) = case.args
    right = jacobian_sparsity(case.fun, x).dense()
    check_pattern(case.fun, x, right)
    wrong = right.copy()
    wrong[4, 5] = False
    for mode in ("fwd", "rev"):
        with pytest.raises(WrongPatternError, match=r"columns \[5\] of row 4"):
            check_pattern(case.fun, x, wrong, mode=mode)
        jac = jacobian(case.fun, method=sparse(wrong, mode=mode))
        with pytest.raises(WrongPatternError, match=r"columns \[5\] of row 4"):
            jac(x)
        assert jnp.isnan(jax.jit(jac)(x)).all()  # no exception can be raised there, and no number stands
    with pytest.raises(WrongPatternError):
        jacobian(case.fun, method=sparse(wrong), output="bcoo")(x)
    with pytest.raises(ValueError, match=r"\(3, 9\).*\(9, 9\)"):
        jacobian(case.fun, method=sparse(np.ones((3, 9))))(x)


def test_a_pattern_is_tried_at_every_point_and_its_gradient_is_no_number_either():
    fun = lambda x: jnp.sin(x) + jnp.where(x[0] > 0, x[::-1], 0)  # diagonal for x[0] <= 0 only
    jac = jacobian(fun, method=sparse(np.eye(4)))
    x = jnp.arange(4.0) - 1
    np.testing.assert_allclose(jac(x), np.diag(np.cos(x)), atol=1e-15)
    with pytest.raises(WrongPatternError, match=r"columns \[3\] of row 0"):
        jac(x + 2)
    each = jax.vmap(jac)(jnp.stack([x, x + 2]))
    assert not jnp.isnan(each[0]).any()
    assert jnp.isnan(each[1]).all()
    slope = jax.jit(jax.grad(lambda x: jnp.sum(jac(x) ** 2)))
    np.testing.assert_allclose(slope(x), -np.sin(2 * x), atol=1e-15)
    assert jnp.isnan(slope(x + 2)).any()


def test_patterns_of_functions_with_one_direction():
    @jax.custom_vjp
    def doubled(x):
        return 2 * x

    doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))
    x, last = jnp.arange(3.0), np.eye(3)
    backward = lambda x: doubled(x) * jnp.roll(x, 1)
    right = np.diag(2 * np.roll(x, 1)) + np.roll(np.diag(2 * np.roll(x, -1)), 1, 0)
    np.testing.assert_allclose(jacobian(backward, method=sparse(last + np.roll(last, 1, 0)))(x), right)
    with pytest.raises(WrongPatternError, match=r"rows \[1\] of column 0"):
        jacobian(backward, method=sparse(last))(x)
    forward = lambda x: jax.lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1]
    with pytest.raises(WrongPatternError, match=r"columns \[1\] of row 1"):
        jacobian(forward, method=sparse(np.diag([1, 0, 1])))(x)


def test_indices_that_are_known_are_read():
    holder = {"index": jnp.asarray([2, 0, 3, 1, 5, 4])}
    fun = lambda x: jnp.sin(x[holder["index"]]) * x
    x = jnp.linspace(0.5, 1, 6)
    jac = jacobian(fun, method="sparse", output="bcoo")
    for index in ([2, 0, 3, 1, 5, 4], [1, 2, 3, 4, 5, 0]):  # the same program, other entries
        holder["index"] = jnp.asarray(index)
        assert jac(x).nse == 12
        np.testing.assert_allclose(jac(x).todense(), jax.jacfwd(fun)(x), atol=1e-15)


def test_dense_functions_are_refused_with_a_way_out():
    case = problem("dense_autoencoder")
    with pytest.raises(UnsupportedMethodError, match="no sparsity"):
        jacobian(case.fun, method="sparse")(*case.args)


def test_bad_patterns_are_named():
    with pytest.raises(ValueError, match="matrix"):
        Pattern.of(np.ones(3))
    with pytest.raises(ValueError, match="outside"):
        Pattern(np.array([3]), np.array([0]), (3, 3))
    with pytest.raises(ValueError, match="fwd, rev"):
        jacobian(problem("tridiagonal").fun, method=sparse(np.eye(9), mode="row"))(jnp.ones(9))
