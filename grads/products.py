"""Products with a derivative that never form it: J v, u^T J, H v, v^T H, J^T H J v, and the metric J^T J.

Every function here takes `fun` of one pytree `x` and returns values in the trees of `fun(x)` or `x`. All are exact, run
under `jit`, `vmap` and `grad`, and cost a few evaluations of `fun` (Griewank & Walther 2008, chapter 3).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, PyTree

from grads import arguments
from grads.calls.problem import over, raveled
from grads.jacobian import jacobian_operator

__all__ = ["gauss_newton_product", "gradient", "gradients", "hvp", "jvp", "metric", "value_and_gradient", "vhp", "vjp"]

Fun = Callable[[PyTree], Any]


def gradient(fun: Callable, argnums: int | Sequence[int] = 0, **options: Any) -> Callable[..., Any]:
    """Return the function x -> d fun / dx for `fun` with one real number as output: `jax.grad`, with its options.

    Raises TypeError when the output is not a scalar or an argument is not differentiable.
    """
    return jax.grad(fun, argnums, **options)


def value_and_gradient(fun: Callable, argnums: int | Sequence[int] = 0, **options: Any) -> Callable[..., Any]:
    """Return x -> (fun(x), gradient(fun)(x)), the value at no extra cost: `jax.value_and_grad`."""
    return jax.value_and_grad(fun, argnums, **options)


def gradients(fun: Callable, argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Return x -> sum over all outputs y_k of d y_k / dx, for any output: what a graph's `gradients(y, x)` gave.

    One reverse pass with ones as cotangent. For a batch of independent examples with one output each it is every
    example's own gradient.
    """

    def total(*args: Any, **kwargs: Any) -> Inexact[Array, ""]:
        return sum((jnp.sum(y) for y in jax.tree.leaves(fun(*args, **kwargs))), start=jnp.zeros(()))

    return jax.grad(total, argnums)


def jvp(fun: Fun, x: PyTree, v: PyTree) -> tuple[Any, Any]:
    """Return (fun(x), J v): one forward pass, about twice the cost of `fun`. Raises ValueError if v is not like x."""
    return jax.jvp(fun, (x,), (_like(x, v, "v"),))


def vjp(fun: Fun, x: PyTree, u: PyTree) -> tuple[Any, PyTree]:
    """Return (fun(x), u^T J): one reverse pass, about three times the cost of `fun`.

    Raises ValueError if u is not like fun(x). Complex values follow `jax.vjp` (transpose, no conjugate).
    """
    y, pull = jax.vjp(fun, x)
    return y, pull(_like(y, u, "u"))[0]


def hvp(fun: Fun, x: PyTree, v: PyTree) -> PyTree:
    """Return H v for `fun` with one real output, forward over reverse (Pearlmutter 1994)."""
    return jax.jvp(jax.grad(fun), (x,), (_like(x, v, "v"),))[1]


def vhp(fun: Fun, x: PyTree, v: PyTree) -> PyTree:
    """Return v^T H, reverse over reverse. Equal to `hvp` in value; needs only reverse rules (e.g. `custom_vjp`)."""
    return jax.vjp(jax.grad(fun), x)[1](_like(x, v, "v"))[0]


def gauss_newton_product(fun: Fun, loss: Callable[[Any], Array], x: PyTree, v: PyTree) -> PyTree:
    """Return J^T H J v, with J = d fun / dx and H the Hessian of `loss` at fun(x).

    The generalised Gauss-Newton product (Schraudolph 2002): one forward pass, one H v in output space, one reverse
    pass. Positive semidefinite when `loss` is convex.
    """
    y, pushed = jax.jvp(fun, (x,), (_like(x, v, "v"),))
    return jax.vjp(fun, x)[1](hvp(loss, y, pushed))[0]


def metric(fun: Fun, x: PyTree, *, method: str = "auto", chunk_size: int | None = None) -> Inexact[Array, "n n"]:
    """Return G = J^H J (n x n, n = size of x): the metric that `fun` pulls back to its input.

    method: "jvps", n forward passes, `chunk_size` at a time; "factored", R^H (L^H L) R from J = L R where `fun` has a
    narrow waist; "auto" takes "factored" if x is larger than the waist. Raises ValueError for another name. For log det
    G take `jacobian_operator(...).slogdet_gram`: forming G squares the condition number.
    """
    arguments.one_of("method for the metric", method, ["auto", "jvps", "factored"])
    arguments.count("chunk_size", chunk_size)
    if method != "jvps":
        operator = jacobian_operator(fun, x)
        if method == "factored" or operator.rank < operator.shape[1]:
            return operator.gram()
    fun_flat, flat, _ = raveled(fun, x)
    rows = over(jax.linearize(fun_flat, flat)[1], jnp.eye(flat.size, dtype=flat.dtype), chunk_size)
    return rows.conj() @ rows.T


def _like(x: PyTree, v: PyTree, name: str) -> PyTree:
    """Return v with the dtypes of x; raise ValueError unless it has x's tree and shapes."""
    want: Any = jax.tree.structure(x)
    if want != jax.tree.structure(v):
        raise ValueError(f"{name} has the tree {jax.tree.structure(v)}, expected {jax.tree.structure(x)}")
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(x), jax.tree.leaves(v), strict=True):
        if jnp.shape(a) != jnp.shape(b):
            where = jax.tree_util.keystr(path)
            raise ValueError(f"{name}{where} has shape {jnp.shape(b)}, expected {jnp.shape(a)}")
    return jax.tree.map(lambda a, b: jnp.asarray(b, jnp.result_type(a)), x, v)
