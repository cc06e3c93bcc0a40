"""Hessians in four orders of modes, in chunks, and by colours where the pattern is sparse."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from grads import arguments
from grads.calls.forms import cut, poisoned
from grads.calls.problem import over
from grads.matrices.pattern import Pattern
from grads.methods.coloured import check_pattern, colour, coloured, mismatch
from grads.programs.sparsity import jacobian_sparsity

__all__ = ["hessian", "hessian_sparsity"]

MODES = ("fwd_over_rev", "rev_over_fwd", "fwd_over_fwd", "rev_over_rev")


def hessian(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    *,
    mode: str = "fwd_over_rev",
    chunk_size: int | None = None,
    sparsity: Any = None,
    output: str = "dense",
    has_aux: bool = False,
) -> Callable[..., Any]:
    """Return x -> d^2 fun / dx^2: a drop-in for `jax.hessian` (trees and shapes: output + input + input).

    mode         outer over inner differentiation; "fwd_over_rev" (n forward passes over the gradient) is the usual
                 best for one output, "fwd_over_fwd" for few inputs and many outputs; the others for functions
                 without a forward or reverse rule
    chunk_size   basis vectors of the outer pass in flight at once (default: all)
    sparsity     "auto" (from the traced program) or a pattern (n x n: dense, BCOO, SciPy, `Pattern`), for one real
                 output and a flat order of all inputs: as many products H v as colours. A given pattern that
                 misses a nonzero gives nan, and outside of `jit` WrongPatternError
    output       "dense", or "bcoo" (the flat n x n matrix; needs `sparsity`)

    Raises ValueError for unknown modes and outputs, TypeError for a sparse Hessian of several outputs.
    """
    arguments.callable_(fun, "hessian")
    arguments.one_of("mode of a Hessian", mode, MODES)
    arguments.count("chunk_size", chunk_size)
    if isinstance(sparsity, str):
        arguments.one_of("sparsity of a Hessian", sparsity, ["auto"])
    if output not in ("dense", "bcoo") or (output == "bcoo" and sparsity is None):
        raise ValueError(f'output is "dense", or "bcoo" with a sparsity, got {output!r} with sparsity={sparsity}')

    def evaluate(*args: Any, **kwargs: Any) -> Any:
        flat_fun, flat, chosen, shapes = _flattened(fun, argnums, args, kwargs, has_aux)
        matrix: Any
        if sparsity is None:
            matrix, aux = _dense(flat_fun, flat, mode, chunk_size)
        else:
            matrix, aux = _coloured(flat_fun, flat, mode, chunk_size, sparsity)
            if output == "bcoo":
                return (matrix, aux) if has_aux else matrix
            matrix = matrix.todense()[None]
        tree = _assemble(matrix, shapes["y"], chosen)
        return (tree, aux) if has_aux else tree

    return evaluate


def _flattened(
    fun: Callable, argnums: int | Sequence[int], args: tuple, kwargs: dict[str, Any], has_aux: bool
) -> tuple[Callable, Array, PyTree, dict[str, Any]]:
    """Return (f -> (raveled output, aux), the raveled arguments, those arguments, where the output's shapes appear).

    The shapes of the output are known, under "y", once the function has been traced.
    """
    single = not isinstance(argnums, (tuple, list))
    numbers = arguments.numbers_of(argnums, len(args))
    chosen = args[numbers[0]] if single else tuple(args[i] for i in numbers)
    arguments.real_leaves(chosen, "a Hessian")
    flat, unravel = ravel_pytree(chosen)
    shapes: dict[str, Any] = {}

    def flat_fun(f: Array) -> tuple[Array, Any]:
        new = list(args)
        values = (unravel(f),) if single else unravel(f)
        for i, value in zip(numbers, values, strict=True):
            new[i] = value
        result = fun(*new, **kwargs)
        if has_aux and not (isinstance(result, (tuple, list)) and len(result) == 2):
            raise TypeError(f"with has_aux=True the function must return (output, aux), got {result!r}")
        y, aux = result if has_aux else (result, None)
        shapes["y"] = jax.eval_shape(lambda: y)
        return ravel_pytree(y)[0], aux

    return flat_fun, flat, chosen, shapes


def hessian_sparsity(fun: Callable, x: PyTree) -> Pattern:
    """Return a pattern, n x n over the raveled x, that holds all nonzeros of the Hessian of a real scalar `fun`."""
    flat, unravel = ravel_pytree(x)
    return jacobian_sparsity(jax.grad(lambda f: jnp.reshape(fun(unravel(f)), ())), flat)


def _inner(fun: Callable, n: int, mode: str) -> Callable[[Array], tuple[Array, Any]]:
    """Return f -> (d fun / df (m, n), aux) by the inner mode."""

    def forward(f: Array) -> tuple[Array, Any]:
        _, push, aux = jax.linearize(fun, f, has_aux=True)
        return jax.vmap(push, out_axes=-1)(jnp.eye(n, dtype=f.dtype)), aux

    def reverse(f: Array) -> tuple[Array, Any]:
        y, pull, aux = jax.vjp(fun, f, has_aux=True)
        return jax.vmap(lambda u: pull(u)[0])(jnp.eye(y.size, dtype=y.dtype)), aux

    return forward if mode.endswith("fwd") else reverse


def _dense(fun: Callable, flat: Array, mode: str, chunk_size: int | None) -> tuple[Array, Any]:
    """Return (the Hessian as (m, n, n), aux)."""
    n = flat.size
    inner = _inner(fun, n, mode)
    if mode.startswith("fwd"):
        _, push, aux = jax.linearize(inner, flat, has_aux=True)
        return jnp.moveaxis(over(push, jnp.eye(n, dtype=flat.dtype), chunk_size), 0, -1), aux
    first, pull, aux = jax.vjp(inner, flat, has_aux=True)
    rows = over(lambda u: pull(u.reshape(first.shape))[0], jnp.eye(first.size, dtype=first.dtype), chunk_size)
    return rows.reshape(*first.shape, n), aux


def _coloured(fun: Callable, flat: Array, mode: str, chunk_size: int | None, sparsity: Any) -> tuple[Any, Any]:
    """Return (H as BCOO, aux) by one product H v per colour."""
    from jax.experimental.sparse import BCOO  # here, because it loads SciPy

    def scalar(f: Array) -> tuple[Array, Any]:
        y, aux = fun(f)
        if y.size != 1:
            raise TypeError(f"a sparse Hessian needs one output, got {y.size}")
        return y, aux

    inner = _inner(scalar, flat.size, mode)
    gradient = lambda f: inner(f)[0][0]
    found = jacobian_sparsity(gradient, flat)
    given = found if isinstance(sparsity, str) else Pattern.of(sparsity)
    if given.shape != found.shape:
        raise ValueError(f"the pattern has shape {given.shape}, the Hessian {found.shape}")
    sure = given.covers(found)
    if mode.startswith("fwd"):
        _, product, aux = jax.linearize(inner, flat, has_aux=True)
        push = lambda v: product(v)[0]
    else:  # H is symmetric: u^T H = H u
        _, pull, aux = jax.vjp(inner, flat, has_aux=True)
        push = lambda v: pull(v[None])[0]
    data = coloured(push, colour(given, "fwd"), flat.dtype, chunk_size)
    if not sure:
        wrong = jnp.sum(mismatch(push, data, given))
        if not isinstance(wrong, jax.core.Tracer) and wrong:
            check_pattern(gradient, flat, given)  # raises, naming the row
        data = poisoned(data, wrong)
    index = jnp.asarray(np.stack([given.rows, given.columns], axis=1))
    return BCOO((data, index), shape=given.shape, indices_sorted=True, unique_indices=True), aux


def _assemble(matrix: Array, y: PyTree, x: PyTree) -> PyTree:
    """Cut (m, n, n) into blocks output + input + input, in the trees of y, x and x."""
    outs, leaves = jax.tree.leaves(y), [jax.typeof(leaf) for leaf in jax.tree.leaves(x)]
    out_tree: Any = jax.tree.structure(y)
    tree: Any = jax.tree.structure(x)
    both = lambda rows, y: [cut(b.astype(y.dtype), leaves, -1) for b in cut(rows, leaves, -2)]
    inside = [both(rows, y) for rows, y in zip(cut(matrix, outs, 0), outs, strict=True)]
    return out_tree.unflatten([tree.unflatten([tree.unflatten(row) for row in block]) for block in inside])
