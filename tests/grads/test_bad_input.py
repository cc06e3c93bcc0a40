"""What cannot be done is refused by one exception of the right type that names the value and the way out."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import grads

ROOT = Path(__file__).resolve().parents[2]
X, Z = jnp.arange(1.0, 5.0), jnp.ones(4, complex)
KEY = jax.random.key(0)
square = lambda x: jnp.sum(x**2)
twice = lambda x: 2 * x
callback = lambda x: jax.pure_callback(np.sin, x, x)

DERIVATIVES = {
    "jacobian": lambda x, **how: grads.jacobian(square, **how)(x),
    "hessian": lambda x, **how: grads.hessian(square, **how)(x),
    "operator": lambda x, **how: grads.jacobian_operator(square, x, **how),
    "explain": lambda x, **how: grads.explain(square, x, **how),
    "check": lambda x, **how: grads.check_jacobian(square, x, **how),
    "compare": lambda x, **how: grads.compare(square, x, methods=("fwd",), seconds=0.001, **how),
}
LEAVES = {
    "text": ("a", "got 'a' of type str"),
    "an object": ([1.0, object()], "object at .* of type object"),
    "integers": (jnp.arange(4), "floating point inputs, got dtype int64.*convert it"),
    "a truth value": (True, "floating point inputs, got dtype bool.*convert it"),
    "complex numbers": (Z, "real .*inputs, got dtype complex128.*holomorphic"),
    "a random key": (KEY, "floating point inputs, got dtype key<fry>"),
}


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("name", DERIVATIVES)
def test_inputs_that_have_no_derivative(name, leaf):
    value, message = LEAVES[leaf]
    with pytest.raises(TypeError, match=message):
        DERIVATIVES[name](value)


@pytest.mark.parametrize(
    ("argnums", "error", "message"),
    [
        (1, ValueError, "argnums=1 is out of range: .* 1 positional"),
        (-2, ValueError, "argnums=-2 is out of range"),
        ((0, 0), ValueError, "names an argument twice"),
        ((), ValueError, "names no argument"),
        (True, TypeError, "got True"),
    ],
)
@pytest.mark.parametrize("name", ["jacobian", "hessian", "explain"])
def test_argnums(name, argnums, error, message):
    with pytest.raises(error, match=message):
        DERIVATIVES[name](X, argnums=argnums)


@pytest.mark.parametrize("size", [0, -1, True])
def test_sizes_are_positive_integers(size):
    loss = lambda p, e: square(p) * e.sum()
    for make in (
        lambda: grads.jacobian(square, chunk_size=size),
        lambda: grads.hessian(square, chunk_size=size),
        lambda: grads.explain(square, X, chunk_size=size),
        lambda: grads.sparse(chunk_size=size),
        lambda: grads.metric(twice, X, method="jvps", chunk_size=size),
        lambda: grads.per_example_gradients(loss, chunk_size=size),
        lambda: grads.per_example_gradient_norms(loss, chunk_size=size),
    ):
        with pytest.raises(ValueError, match=f"chunk_size must be a positive integer or None, got {size!r}"):
            make()
    for make in (grads.jacobian, lambda f, **how: grads.explain(f, X, **how)):
        with pytest.raises(ValueError, match=f"memory_limit must be a positive integer or None, got {size!r}"):
            make(square, memory_limit=size)


@pytest.mark.parametrize("name", ["jacobian", "operator", "explain", "check"])
def test_names_of_methods(name):
    for wrong, near in (("chian", "'chain'"), ("AUTO", "'auto'"), ("", "known: fwd")):
        with pytest.raises(grads.UnknownMethodError, match=near):
            DERIVATIVES[name](X, method=wrong)


CASES = {
    "no arguments": (lambda: grads.compare(square), ValueError, "0 positional"),
    "option": (lambda: grads.explain(square, X, outptu=1), ValueError, "'outptu'; did you mean 'output'"),
    "output": (lambda: grads.explain(square, X, output="dens"), ValueError, "did you mean 'dense'"),
    "batch axis": (
        lambda: grads.jacobian(twice, batch_axis=5)(jnp.ones((3, 2))),
        grads.UnsupportedMethodError,
        r"no axis 5 to hold examples \(shapes \(3, 2\), \(3, 2\)\): leave batch_axis out",
    ),
    "holomorphic": (lambda: grads.jacobian(square, holomorphic=True)(X), TypeError, "needs complex inputs"),
    "callback": (
        lambda: grads.jacobian(callback)(X),
        grads.UnsupportedMethodError,
        "pure_callback has no derivative: .*custom_jvp.*'finite_difference'",
    ),
    "loop": (
        lambda: grads.jacobian(
            lambda x: jax.lax.while_loop(lambda c: c.sum() < 9, twice, x), method="rev"
        )(X),
        grads.UnsupportedMethodError,
        "while loop .* use 'fwd', or lax.scan",
    ),
    "memory": (
        lambda: grads.jacobian(twice, memory_limit=8)(X),
        grads.MemoryLimitError,
        "memory_limit=8 bytes: no method meets it; the least is .* bytes",
    ),
    "operator of integers": (
        lambda: grads.jacobian_operator(lambda x: jnp.arange(3), X),
        TypeError,
        "output must be floating point, got dtype int64",
    ),
    "aux": (lambda: grads.hessian(square, has_aux=True)(X), TypeError, r"must return \(output, aux\)"),
    "sparsity": (lambda: grads.hessian(square, sparsity="atuo"), ValueError, "did you mean 'auto'"),
    "pattern of a Hessian": (
        lambda: grads.hessian(square, sparsity=np.eye(3))(X),
        ValueError,
        r"shape \(3, 3\), the Hessian \(4, 4\)",
    ),
    "reference": (lambda: grads.check_jacobian(square, X, against="probe"), ValueError, "'probes'"),
    "shape": (
        lambda: grads.check_jacobian(square, X, jac=lambda x: jnp.ones(3), against="float64"),
        grads.WrongJacobianError,
        r"shape \(3,\), expected \(4,\)",
    ),
    "tree": (
        lambda: grads.check_jacobian(square, X, jac=lambda x: (x, x), against="float64"),
        grads.WrongJacobianError,
        "has the tree",
    ),
    "estimator's option": (
        lambda: grads.jacobian_operator(square, X).frobenius(sampels=3),
        ValueError,
        "'sampels'; did you mean 'samples'",
    ),
    "samples": (
        lambda: grads.jacobian_operator(square, X).row_norms(method="hutchinson", key=KEY, samples=0),
        ValueError,
        "samples must be a positive integer",
    ),
    "key": (
        lambda: grads.jacobian_operator(square, X).frobenius(method="xtrace", key=0),
        TypeError,
        r"random key \(jax.random.key\(0\)\), got 0",
    ),
    "estimator": (
        lambda: grads.jacobian_operator(square, X).row_norms(method="xtrace", key=KEY),
        ValueError,
        "'hutchinson' only, got 'xtrace'",
    ),
    "module": (lambda: grads.of_module(nnx.Linear, X), TypeError, "NNX or Linen module"),
    "module's method": (
        lambda: grads.of_module(linen.Dense(3), X, variables={}, method="enc"),
        AttributeError,
        "Dense has no method 'enc'",
    ),
    "variables": (
        lambda: grads.of_module(linen.Dense(3), X, variables={"kernel": X}),
        ValueError,
        r"\"params\".*got \['kernel'\]",
    ),
    "variables of NNX": (
        lambda: grads.of_module(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), X, variables={}),
        ValueError,
        "carries its own",
    ),
}


# these break the types of a signature, which the tests check before the function does
KINDS = [
    (lambda: grads.hessian(3), TypeError, "hessian differentiates a function, got 3"),
    (lambda: grads.jacobian_operator(3, X), TypeError, "got 3"),
    (lambda: grads.explain(3, X), TypeError, "got 3"),
    (lambda: grads.compare(3, X), TypeError, "got 3"),
    (lambda: grads.explain(twice, X, batch_axis=1.5), TypeError, "got 1.5"),
    (lambda: grads.check_jacobian(square, X, rtol=-1), ValueError, "rtol must be positive"),
    (lambda: grads.compare(square, X, seconds=-1), ValueError, "seconds must be positive"),
    (lambda: grads.jacobian(square, argnums="x")(X), TypeError, "got 'x'"),
    (lambda: grads.hessian(square, argnums=1.5)(X), TypeError, "got 1.5"),
    (lambda: grads.jacobian(square, method=None), TypeError, "got None"),
    (lambda: grads.hessian(square, chunk_size=2.5), ValueError, "positive integer or None, got 2.5"),
    (lambda: grads.explain(square, X, memory_limit="1GB"), ValueError, "positive integer or None, got '1GB'"),
]


def check_kinds():
    for make, error, message in KINDS:
        with pytest.raises(error, match=message):
            make()


def test_arguments_of_another_kind():
    """In a child process, without the checks of types that the tests add."""
    code = "from tests.grads.test_bad_input import check_kinds; check_kinds(); print('all refused')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.stdout == "all refused\n", done.stderr


@pytest.mark.parametrize("name", CASES)
def test_one_clear_exception(name):
    make, error, message = CASES[name]
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("output", ["dense", "transposed", "factored", "bcoo", "operator"])
def test_empty_arrays_have_empty_jacobians(output):
    got = grads.jacobian(twice, output=output)(jnp.ones(0))
    assert got.shape == (0, 0)
    assert "no entries" in str(grads.explain(twice, jnp.ones(0)))


def test_an_empty_batch_has_no_jacobians_of_the_right_shape():
    got = grads.jacobian(lambda x: x[:, :2], batch_axis=0)(jnp.ones((0, 3)))
    assert got.shape == (0, 2, 3)
    assert grads.check_jacobian(square, jnp.ones(0)) == {"float64": 0, "complex_step": 0, "probes": 0}


def test_nan_stays_nan():
    got = grads.jacobian(lambda x: jnp.sin(x) * x[::-1])(X.at[1].set(jnp.nan))
    np.testing.assert_array_equal(jnp.isnan(got).any(1), [False, True, True, False])
    assert grads.check_jacobian(square, X * jnp.nan)["float64"] == 0  # the reference is nan there as well
    zero = jnp.zeros(2, jnp.float32)
    assert grads.check_jacobian(lambda x: 0 * x, zero)["float64"] == 0  # an all zero block in float32


def test_an_operator_takes_arguments_from_the_end_and_a_method():
    fun = lambda a, b: a * b
    both = [grads.jacobian(fun, argnums=-1, output="operator", method=m)(X, 2 * X) for m in ("auto", "rev")]
    for operator in both:
        np.testing.assert_allclose(operator.materialize(), np.diag(X))


def test_a_callback_inside_a_rule_is_differentiated():
    @jax.custom_jvp
    def sine(x):
        return callback(x)

    sine.defjvp(lambda p, t: (sine(*p), t[0] * jnp.cos(p[0])))  # the rule calls its function
    np.testing.assert_allclose(grads.jacobian(lambda x: 2 * sine(x))(X), np.diag(2 * np.cos(X)), atol=1e-15)


def test_a_loop_inside_a_custom_vjp_is_differentiated_by_its_rule():
    @jax.custom_vjp
    def fixed(x):
        return jax.lax.while_loop(lambda c: c.sum() < 1e3, lambda c: c * 2, x)

    fixed.defvjp(lambda x: (fixed(x), None), lambda _, g: (3 * g,))
    for method in ("auto", "rev"):
        np.testing.assert_array_equal(grads.jacobian(fixed, method=method)(X), 3 * np.eye(4))


def test_modules_without_parameters():
    fun, at = grads.of_module(linen.Dropout(0.5, deterministic=True), X, variables={})
    np.testing.assert_array_equal(grads.jacobian(fun)(at), np.eye(4))
