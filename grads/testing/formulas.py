"""Small functions of every shape of input and output, with their Jacobians by formula."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grads.testing.register import register_problem


def _float64(*values: Any) -> list[np.ndarray]:
    return [np.asarray(v, np.complex128 if np.iscomplexobj(v) else np.float64) for v in values]


@register_problem("number_to_number", "number")
def _number_to_number(rng: np.random.Generator, dtype: Any) -> tuple:
    fun = lambda x: x**2 * jnp.sin(x)
    first = lambda x: 2 * x * np.sin(x) + x**2 * np.cos(x)
    return fun, (jnp.asarray(0.7, dtype),), lambda x: first(*_float64(x))


@register_problem("number_to_vector", "number", "vector")
def _number_to_vector(rng: np.random.Generator, dtype: Any) -> tuple:
    fun = lambda t: jnp.stack([t, t**3, jnp.exp(t)])
    return fun, (jnp.asarray(0.4, dtype),), lambda t: np.array([1.0, 3 * float(t) ** 2, np.exp(float(t))])


@register_problem("vector_to_number", "vector", "number", "hessian")
def _vector_to_number(rng: np.random.Generator, dtype: Any) -> tuple:
    x = jnp.asarray(rng.normal(size=5), dtype)
    return (lambda x: jnp.sum(x**3), (x,), lambda x: 3 * np.float64(x) ** 2, lambda x: np.diag(6 * np.float64(x)))


@register_problem("rosenbrock", "vector", "number", "hessian", "banded")
def _rosenbrock(rng: np.random.Generator, dtype: Any) -> tuple:
    fun = lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def first(x: Any) -> np.ndarray:
        (x,), g = _float64(x), np.zeros(len(x))
        g[1:] += 200 * (x[1:] - x[:-1] ** 2)
        g[:-1] += -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
        return g

    def second(x: Any) -> np.ndarray:
        (x,) = _float64(x)
        d = np.zeros(len(x))
        d[1:] += 200
        d[:-1] += 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
        return np.diag(d) + np.diag(-400 * x[:-1], 1) + np.diag(-400 * x[:-1], -1)

    return fun, (jnp.asarray(rng.normal(size=8), dtype),), first, second


@register_problem("elementwise", "vector", "diagonal", "sparse")
def _elementwise(rng: np.random.Generator, dtype: Any) -> tuple:
    x = jnp.asarray(rng.normal(size=6), dtype)
    return lambda x: jnp.tanh(x) * x, (x,), lambda x: np.diag(_tanh_x(*_float64(x)))


def _tanh_x(x: np.ndarray) -> np.ndarray:
    return np.tanh(x) + x * (1 - np.tanh(x) ** 2)


@register_problem("softmax", "vector")
def _softmax(rng: np.random.Generator, dtype: Any) -> tuple:
    def first(x: Any) -> np.ndarray:
        p = np.exp(np.float64(x) - np.max(x))
        p /= p.sum()
        return np.diag(p) - np.outer(p, p)

    return jax.nn.softmax, (jnp.asarray(rng.normal(size=5), dtype),), first


@register_problem("sandwich", "matrix", "linear")
def _sandwich(rng: np.random.Generator, dtype: Any) -> tuple:
    """Y = A X B: dY_ij / dX_kl = A_ik B_lj."""
    x, a, b = (jnp.asarray(rng.normal(size=s), dtype) for s in ((4, 5), (3, 4), (5, 2)))
    return (lambda x, a, b: a @ x @ b), (x, a, b), lambda x, a, b: np.einsum("ik,lj->ijkl", *_float64(a, b))


@register_problem("matrix_inverse", "matrix")
def _matrix_inverse(rng: np.random.Generator, dtype: Any) -> tuple:
    """Y = X^-1: dY_ij / dX_kl = -Y_ik Y_lj."""

    def first(x: Any) -> np.ndarray:
        y = np.linalg.inv(np.float64(x))
        return -np.einsum("ik,lj->ijkl", y, y)

    return jnp.linalg.inv, (jnp.asarray(rng.normal(size=(3, 3)) + 4 * np.eye(3), dtype),), first


@register_problem("log_determinant", "matrix", "number")
def _log_determinant(rng: np.random.Generator, dtype: Any) -> tuple:
    """log |det X|: derivative X^-T."""
    x = jnp.asarray(rng.normal(size=(4, 4)) + 4 * np.eye(4), dtype)
    return lambda x: jnp.linalg.slogdet(x)[1], (x,), lambda x: np.linalg.inv(np.float64(x)).T


@register_problem("tree", "pytree")
def _tree(rng: np.random.Generator, dtype: Any) -> tuple:
    x = {"a": jnp.asarray(rng.normal(size=3), dtype), "b": jnp.asarray(1.5, dtype)}
    fun = lambda x: (x["a"] * x["b"], {"s": jnp.sum(x["a"] ** 2), "m": jnp.outer(x["a"], x["a"])[:2]})

    def first(x: Any) -> Any:
        a, b = _float64(x["a"], x["b"])
        eye = np.eye(3)
        outer = np.einsum("ik,j->ijk", eye, a) + np.einsum("i,jk->ijk", a, eye)
        m = {"a": outer[:2], "b": np.zeros((2, 3))}
        return ({"a": b * eye, "b": a}, {"s": {"a": 2 * a, "b": np.zeros(())}, "m": m})

    return fun, (x,), first


@register_problem("empty_and_unused", "pytree", "zero_size")
def _empty_and_unused(rng: np.random.Generator, dtype: Any) -> tuple:
    x = {"empty": jnp.zeros((0,), dtype), "unused": jnp.ones((2,), dtype), "used": jnp.asarray([0.5, 2.0], dtype)}
    fun = lambda x: jnp.concatenate([x["used"] ** 2, x["empty"]])

    def first(x: Any) -> Any:
        return {"empty": np.zeros((2, 0)), "unused": np.zeros((2, 2)), "used": np.diag(2 * np.float64(x["used"]))}

    return fun, (x,), first


@register_problem("sort", "vector", "permutation", "sparse")
def _sort(rng: np.random.Generator, dtype: Any) -> tuple:
    x = jnp.asarray(rng.permutation(6) + 0.25, dtype)
    return jnp.sort, (x,), lambda x: np.eye(6)[np.argsort(np.float64(x))]


@register_problem("cumulative_sum", "vector", "linear", "triangular")
def _cumulative_sum(rng: np.random.Generator, dtype: Any) -> tuple:
    return jnp.cumsum, (jnp.asarray(rng.normal(size=5), dtype),), lambda x: np.tril(np.ones((5, 5)))


@register_problem("low_rank", "vector", "chain")
def _low_rank(rng: np.random.Generator, dtype: Any) -> tuple:
    """U tanh(V x) of rank 2."""
    x, u, v = (jnp.asarray(rng.normal(size=s), dtype) for s in ((12,), (10, 2), (2, 12)))

    def first(x: Any, u: Any, v: Any) -> np.ndarray:
        x, u, v = _float64(x, u, v)
        return u @ np.diag(1 - np.tanh(v @ x) ** 2) @ v

    return (lambda x, u, v: u @ jnp.tanh(v @ x)), (x, u, v), first


@register_problem("batched", "matrix", "batch")
def _batched(rng: np.random.Generator, dtype: Any) -> tuple:
    """Rows are independent: the Jacobian is zero between them."""
    x, w = (jnp.asarray(rng.normal(size=s), dtype) for s in ((4, 3), (3, 2)))

    def first(x: Any, w: Any) -> np.ndarray:
        x, w = _float64(x, w)
        slope = 1 - np.tanh(x @ w) ** 2
        return np.einsum("bj,kj,bc->bjck", slope, w, np.eye(4))

    return (lambda x, w: jnp.tanh(x @ w)), (x, w), first


def _complex(rng: np.random.Generator, dtype: Any, n: int) -> jax.Array:
    kind = jnp.complex128 if jnp.dtype(dtype).itemsize == 8 else jnp.complex64
    return jnp.asarray(rng.normal(size=n) + 1j * rng.normal(size=n), kind)


@register_problem("holomorphic", "complex", "vector", "holomorphic")
def _holomorphic(rng: np.random.Generator, dtype: Any) -> tuple:
    first = lambda z: np.diag((2 * z + z**2) * np.exp(z))
    return lambda z: z**2 * jnp.exp(z), (_complex(rng, dtype, 3),), lambda z: first(*_float64(z))


@register_problem("real_to_complex", "complex", "vector", "forward_only")
def _real_to_complex(rng: np.random.Generator, dtype: Any) -> tuple:
    x = jnp.asarray(rng.normal(size=3), dtype)
    return lambda x: jnp.exp(1j * x), (x,), lambda x: np.diag(1j * np.exp(1j * np.float64(x)))


@register_problem("complex_to_real", "complex", "vector", "reverse_only")
def _complex_to_real(rng: np.random.Generator, dtype: Any) -> tuple:
    """|z|^2: JAX's convention for a real output is df/dx - i df/dy = 2 conj(z)."""
    first = lambda z: np.diag(2 * np.conj(z))
    return lambda z: z.real**2 + z.imag**2, (_complex(rng, dtype, 3),), lambda z: first(*_float64(z))


@register_problem("mixed_dtype", "pytree", "mixed_dtype")
def _mixed_dtype(rng: np.random.Generator, dtype: Any) -> tuple:
    """Half and single precision in, single out: `jacfwd` gives both blocks the output's dtype."""
    x = {"half": jnp.asarray([0.5, 1.5], jnp.float16), "single": jnp.asarray([1.0, -2.0, 0.25], jnp.float32)}
    fun = lambda x: x["single"] * jnp.sum(x["half"].astype(jnp.float32))

    def first(x: Any) -> Any:
        half, single = _float64(x["half"], x["single"])
        return {"half": np.outer(single, np.ones(2)), "single": np.eye(3) * half.sum()}

    return fun, (x,), first
