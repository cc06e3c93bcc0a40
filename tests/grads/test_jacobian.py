"""`jacobian` is jacfwd: same trees, shapes, dtypes and numbers, by every method; and it refuses bad input
clearly.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import grads

EXACT = ("fwd", "rev", "fwd_chunked", "rev_chunked", "chain", "structured", "batched", "auto")


def weight(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[0]))


W1, W2, W3 = weight(0, 6, 4), weight(1, 4, 2), weight(2, 2, 5)
X = weight(3, 6)


def heads(x):
    h = jax.nn.gelu(x @ W1)
    mean, log_std = h @ W2, jnp.tanh(h @ W2)
    z = mean + jnp.exp(log_std) * 0.3
    return {"x": jax.nn.softmax(z @ W3), "mean": mean, "count": jnp.round(x).astype(int), "input": x}


def skip(x):
    h = x + jnp.tanh(x @ W1) @ W1.T
    return jax.nn.relu(h) * jnp.where(x > 0, 1.0, 2.0) + jax.lax.stop_gradient(h)


def two_inputs(tree):
    return tree["a"] @ W1 * tree["b"].sum(), (tree["b"] ** 2, tree["unused"].sum() * 0 + 1.0)


def recurrent(x):
    carry, ys = jax.lax.scan(lambda c, w: (jnp.tanh(c * w), c.sum()), x[:3], x[3:])
    return carry, ys


def with_loop(x):
    return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1]) * c[1]), (0, x))[1] @ W1


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))


def conv(x):
    image = x.reshape(1, 3, 2, 1)
    kernel = W1[:2, :2].reshape(2, 2, 1, 1)
    y = jax.lax.conv_general_dilated(
        image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.tanh(y).reshape(-1) @ W1 @ W2


def normed(x):
    h = x[None] @ W1
    h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5)
    return (h @ W2)[0]


def dropout(x):
    keep = jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)
    return jnp.where(keep, x, 0.0) @ W1


def batch(x):
    return jax.nn.relu(x.reshape(3, 2) @ W3)


TREE = {"a": X, "b": weight(5, 3).astype(jnp.float32), "unused": weight(6, 2)}
CASES = {
    "heads": (heads, X),
    "skip": (skip, X),
    "two_inputs": (two_inputs, TREE),
    "recurrent": (recurrent, X),
    "with_loop": (with_loop, X),
    "conv": (conv, X),
    "normed": (normed, X),
    "dropout": (dropout, X),
    "batch": (lambda x: jax.nn.relu(x @ W1) @ W2, weight(7, 3, 6)),
    "scalar": (lambda x: x**3, jnp.asarray(1.5)),
    "scalar out": (lambda x: jnp.sum(jnp.sin(x) @ W1), X),
    "constant": (lambda x: jnp.ones(3), X),
    "same": (lambda x: (x, x), X),
    "zero size": (lambda x: (x[:0], x), X),
    "permuted": (lambda x: jnp.transpose(x.reshape(2, 3)).reshape(-1) * 2.0, X),
    "argmax": (lambda x: x[jnp.argmax(x)] * x, X),
}


def agree(ours, reference, tolerance=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(reference)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 if a.dtype == jnp.float32 else tolerance)


@pytest.mark.parametrize("name", CASES)
def test_every_method_is_jacfwd(name):
    fun, x = CASES[name]
    reference = jax.jacfwd(fun)(x)
    done = []
    for method in EXACT:
        try:
            agree(grads.jacobian(fun, method=method)(x), reference, 1e-6 if name == "two_inputs" else 1e-12)
            done.append(method)
        except grads.UnsupportedMethodError as error:
            if method in ("auto", "fwd"):
                raise error
    assert {"auto", "fwd"} <= set(done)
    if name in ("heads", "skip", "conv", "normed", "dropout"):
        assert "chain" in done


def test_reverse_only_function():
    fun = lambda x: jnp.tanh(doubled(x @ W1) @ W2)
    reference = jax.jacrev(fun)(X)
    agree(grads.jacobian(fun)(X), reference)
    agree(grads.jacobian(fun, method="chain")(X), reference)
    with pytest.raises(grads.UnsupportedMethodError, match=r"custom_vjp.*rev"):
        grads.jacobian(fun, method="fwd")(X)


def test_forward_only_function():
    with pytest.raises(grads.UnsupportedMethodError, match=r"while.*fwd"):
        grads.jacobian(with_loop, method="rev")(X)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(["dense", "tanh", "residual", "norm", "heads", "reshape"]), min_size=1, max_size=4),
       st.integers(0, 99))  # fmt: skip
def test_chain_on_random_networks(layers, seed):
    def fun(x):
        for i, kind in enumerate(layers):
            w = weight(seed + i, x.size, 3 + (seed + i) % 4)
            if kind == "dense":
                x = x @ w
            elif kind == "tanh":
                x = jnp.tanh(x) * 1.5
            elif kind == "residual":
                x = x + jax.nn.silu(x @ w) @ w.T
            elif kind == "norm":
                x = (x - x.mean()) / jnp.sqrt(x.var() + 0.1)
            elif kind == "heads":
                x = x @ w + jnp.exp(0.1 * (x @ w))
            else:
                x = x.reshape(-1, 1)[::-1, 0]
        return x

    u, v = weight(seed, fun(X).size), weight(seed + 1, X.size)
    value, jac = grads.value_and_jacobian(fun)(X)
    np.testing.assert_allclose(value, fun(X), atol=1e-13)
    np.testing.assert_allclose(jac @ v, jax.jvp(fun, (X,), (v,))[1], atol=1e-11)
    np.testing.assert_allclose(u @ jac, jax.vjp(fun, X)[1](u)[0], atol=1e-11)


@pytest.mark.parametrize("method", ["chain", "fwd_chunked", "auto"])
def test_under_transformations(method):
    batch_of = weight(8, 3, 6)
    jac = lambda f: grads.jacobian(f, method=method)
    agree(jax.vmap(jax.jit(jac(skip)))(batch_of), jax.vmap(jax.jacfwd(skip))(batch_of))

    def penalty(transform, scale):
        return jnp.sum(transform(lambda x: jnp.tanh(x * scale @ W1) @ W2 @ W3)(X) ** 2)

    scale = weight(9, 6)
    ours = jax.grad(lambda s: penalty(jac, s))(scale)
    np.testing.assert_allclose(ours, jax.grad(lambda s: penalty(jax.jacfwd, s))(scale), atol=1e-12)
    remat = lambda f: grads.jacobian(f, method=method, remat=True)
    np.testing.assert_allclose(jax.grad(lambda s: penalty(remat, s))(scale), ours, atol=1e-12)


def test_argnums_aux_and_static_arguments():
    def fun(name, x, y, *, power):
        assert name == "static"
        return x @ W1 * y.sum() ** power, {"sum": x.sum(), "label": "text", "n": 3, "ints": jnp.arange(2)}

    args = ("static", X, weight(4, 2))
    jac, aux = grads.jacobian(fun, argnums=(1, -1), has_aux=True)(*args, power=2)
    reference = jax.jacfwd(lambda *a: fun(*a, power=2)[0], argnums=(1, 2))(*args)
    agree(jac, reference)
    assert aux["label"] == "text"
    assert aux["n"] == 3
    np.testing.assert_allclose(aux["sum"], X.sum())
    (value, aux2), _ = grads.value_and_jacobian(fun, argnums=1, has_aux=True)(*args, power=2)
    np.testing.assert_allclose(value, fun(*args, power=2)[0], atol=1e-13)
    assert aux2["ints"].dtype == jnp.arange(2).dtype


def test_changed_closure_is_seen():
    holder = {"w": W1}
    jac = grads.jacobian(lambda x: jnp.tanh(x @ holder["w"]), method="chain")
    before = jac(X)
    holder["w"] = 2 * W1
    agree(jac(X), jax.jacfwd(lambda x: jnp.tanh(x @ (2 * W1)))(X))
    assert float(jnp.max(jnp.abs(jac(X) - before))) > 1e-3


def test_python_control_flow_falls_back():
    fun = lambda x: x @ W1 if x[0] > 0 else x @ W1 * 2
    for sign in (1.0, -1.0):
        x = jnp.abs(X) * sign
        agree(grads.jacobian(fun)(x), jax.jacfwd(fun)(x))
    with pytest.raises(grads.UnsupportedMethodError, match=r"branches on the values.*lax.cond"):
        grads.jacobian(fun, method="chain")(X)


def test_complex_conventions():
    z = X + 1j * X[::-1]
    holomorphic = lambda z: jnp.sin(z @ W1)
    for method in ("fwd", "rev", "auto"):
        agree(
            grads.jacobian(holomorphic, holomorphic=True, method=method)(z),
            jax.jacfwd(holomorphic, holomorphic=True)(z),
        )
    real_to_complex = lambda x: jnp.exp(1j * x) @ W1
    agree(grads.jacobian(real_to_complex)(X), jax.jacfwd(real_to_complex)(X))
    inside = lambda x: jnp.abs(jnp.fft.fft(x)) @ W1
    agree(grads.jacobian(inside)(X), jax.jacfwd(inside)(X))
    with pytest.raises(TypeError, match="holomorphic=True"):
        grads.jacobian(holomorphic)(z)
    with pytest.raises(TypeError, match="complex inputs"):
        grads.jacobian(holomorphic, holomorphic=True)(X)


def test_integers():
    tree = (X, jnp.arange(2))
    fun = lambda t: t[0] @ W1 + t[1].sum()
    jac = grads.jacobian(fun, allow_int=True)(tree)
    assert jac[1].dtype == jax.dtypes.float0
    assert jac[1].shape == (4, 2)
    agree(jac[0], jax.jacfwd(lambda x: fun((x, tree[1])))(X))
    with pytest.raises(TypeError, match="allow_int"):
        grads.jacobian(fun)(tree)


def test_output_forms():
    dense = jax.jacfwd(heads)(X)
    transposed = grads.jacobian(heads, output="transposed")(X)
    for name in ("x", "mean"):
        np.testing.assert_allclose(transposed[name], dense[name].T, atol=1e-12)
    narrow = lambda x: jnp.tanh(x @ W1 @ W2) @ W2.T @ W1.T
    reference = jax.jacfwd(narrow)(X)
    factored = grads.jacobian(narrow, output="factored", method="chain")(X)
    assert factored.rank == 2
    assert factored.left.shape == (6, 2)
    np.testing.assert_allclose(factored.left @ factored.right, reference, atol=1e-13)
    np.testing.assert_allclose(factored.materialize(), reference, atol=1e-13)
    np.testing.assert_allclose(factored.T @ X, reference.T @ X, atol=1e-13)
    rows = weight(1, 3, 6)
    per_row = lambda x: jnp.sin(x) @ W1
    for fun, x in ((narrow, X), (per_row, rows)):
        sparse = grads.jacobian(fun, output="bcoo")(x)
        flat = jax.jacfwd(fun)(x).reshape(fun(x).size, x.size)
        np.testing.assert_allclose(sparse.todense(), flat, atol=1e-13)
    assert grads.jacobian(per_row, output="bcoo", method="batched")(rows).nse == 3 * 4 * 6


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: grads.jacobian(heads)("text"), TypeError, "arrays and numbers"),
        (lambda: grads.jacobian(3), TypeError, "3"),
        (lambda: grads.jacobian(heads, argnums=2)(X), ValueError, "argnums=2 is out of range"),
        (lambda: grads.jacobian(heads, argnums="x")(X), TypeError, "argnums"),
        (lambda: grads.jacobian(heads, method="chian"), grads.UnknownMethodError, "'chain'"),
        (lambda: grads.jacobian(heads, output="sparse"), ValueError, "bcoo"),
        (lambda: grads.jacobian(heads, chunk_size=0), ValueError, "chunk_size"),
        (lambda: grads.jacobian(heads, memory_limit=8)(X), grads.MemoryLimitError, "memory_limit=8"),
        (lambda: grads.jacobian(heads, has_aux=True)(X), TypeError, "has_aux"),
        (lambda: grads.jacobian(lambda x: "no")(X), TypeError, "outputs must be"),
        (lambda: grads.jacobian(lambda x: x - x.mean(0), batch_axis=0)(X), ValueError, "not independent"),
        (lambda: grads.jacobian(lambda x: x @ W1, batch_axis=0)(X), grads.UnsupportedMethodError, "axis 0"),
    ],
)
def test_bad_input(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_user_function_is_called_once_per_trace():
    calls = []

    def fun(x):
        calls.append(1)
        return jnp.tanh(x @ W1) @ W2

    jac = jax.jit(grads.jacobian(fun, method="chain"))
    jac(X), jac(X)
    assert len(calls) == 1
