"""`jacobian` and `value_and_jacobian`: drop-ins for `jax.jacfwd` that choose the method and the form of the result."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from grads import arguments
from grads.calls import forms
from grads.calls.problem import JacobianOptions, flatten_call, raveled, restore
from grads.matrices.operator import JacobianOperator
from grads.methods.evaluate import run
from grads.methods.registry import Method, get_method


def value_and_jacobian(
    fun: Callable,
    argnums: int | tuple[int, ...] = 0,
    *,
    method: str | Method = "auto",
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    chunk_size: int | None = None,
    memory_limit: int | None = None,
    batch_axis: int | None = None,
    output: str = "dense",
    precision: Any = None,
    remat: bool = False,
) -> Callable:
    """Return a function of the same arguments that returns `(value, J)`, or `((value, aux), J)` with `has_aux`.

    The arguments are those of `jacobian`. The value costs nothing extra.
    """
    check_options(fun, method, chunk_size, memory_limit, batch_axis, output)
    options = JacobianOptions(chunk_size, memory_limit, batch_axis, holomorphic, remat, output == "factored")

    def evaluate(*args, **kwargs):
        if output == "operator":
            return _operator(fun, argnums, method, has_aux, args, kwargs)
        call = flatten_call(fun, argnums, args, kwargs, has_aux=has_aux, holomorphic=holomorphic, allow_int=allow_int)
        with nullcontext() if precision is None else jax.default_matmul_precision(precision):
            values, aux, jac = run(call, options, method, output, precision)
        value, rest = restore(call.store, values, aux)
        if output in ("dense", "transposed"):
            jac = forms.assemble(jac, call, output == "transposed")
        return ((value, rest) if has_aux else value), jac

    return evaluate


def jacobian(
    fun: Callable,
    argnums: int | tuple[int, ...] = 0,
    *,
    method: str | Method = "auto",
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    chunk_size: int | None = None,
    memory_limit: int | None = None,
    batch_axis: int | None = None,
    output: str = "dense",
    precision: Any = None,
    remat: bool = False,
) -> Callable:
    """Return the Jacobian of `fun`, J[i, j] = d fun(x)_i / d x_j: a drop-in for `jax.jacfwd`.

    The result has jacfwd's pytree, shapes and dtypes: outputs outside, inputs inside, each block of shape output.shape
    + input.shape in the dtype of the output. With `has_aux` it returns `(J, aux)`.

    method        a registered name (`grads.methods()`), a `Method`, "auto" (cost model) or "autotune"
                  (measured)
    chunk_size    columns (or rows) at once for the chunked methods; default: what fits the cache
    memory_limit  bytes of temporaries plus output; "auto" chooses within it
    batch_axis    the function maps independent examples along this axis of every input and output; the result
                  then is the Jacobian of each example, (batch, *output, *input), as `vmap(jacfwd(one
                  example))`. Proved from the program where that can be, else tested by random products in
                  every evaluation: a false claim is ValueError, or nan under `jit`, `vmap` and `grad`
    output        "dense"; "transposed" (inputs outside, blocks input.shape + output.shape); "factored"
                  (`Factored`, the flat (m, n) matrix as a product); "bcoo" (flat (m, n) coordinate form);
                  "operator" (`JacobianOperator`: products only)
    precision     matrix multiplication precision, as in `jax.default_matmul_precision`
    remat         recompute intermediate values when the Jacobian is differentiated again

    Raises TypeError for arguments that cannot be differentiated (not arrays, integers without `allow_int`, complex
    without `holomorphic`); ValueError for argnums out of range and for bad options; UnknownMethodError with the nearest
    name; UnsupportedMethodError when the method cannot do this function, and MemoryLimitError when no method meets the
    limit.
    """
    options = dict(locals())  # the same options
    both = value_and_jacobian(**options)

    def evaluate(*args, **kwargs):
        value, jac = both(*args, **kwargs)
        return (jac, value[1]) if has_aux else jac

    return evaluate


def check_options(fun, method, chunk_size, memory_limit, batch_axis, output) -> None:
    """Raise for what can be refused before the function is called: see `jacobian`."""
    arguments.callable_(fun, "jacobian")
    if method not in ("auto", "autotune"):
        get_method(method)
    arguments.one_of("output", output, forms.OUTPUTS)
    arguments.count("chunk_size", chunk_size)
    arguments.count("memory_limit", memory_limit)
    if batch_axis is not None and (isinstance(batch_axis, bool) or not isinstance(batch_axis, int)):
        raise TypeError(f"batch_axis must be an integer or None, got {batch_axis!r}")
    if batch_axis is not None and output in ("factored", "operator", "bcoo"):
        raise ValueError(f"batch_axis gives one Jacobian per example, which output={output!r} does not hold")


def jacobian_operator(fun: Callable[[PyTree], PyTree], x: PyTree, *, method: Any = "auto") -> JacobianOperator:
    """Return d fun / dx at x as an operator of shape (m, n): outputs and inputs raveled and concatenated.

    method: how its factors are found when a functional needs them (as in `jacobian`). Raises TypeError for complex or
    integer leaves.
    """
    arguments.callable_(fun, "jacobian_operator")
    if method not in ("auto", "autotune"):
        get_method(method)
    arguments.real_leaves(x, "an operator")
    fun_flat, flat, _ = raveled(fun, x)
    out = jax.eval_shape(fun_flat, flat)
    if not jnp.issubdtype(out.dtype, jnp.inexact):
        raise TypeError(f"an operator's output must be floating point, got dtype {out.dtype}")
    factor = lambda: jacobian(fun_flat, method=method, output="factored")(flat)
    push = lambda v: jax.jvp(fun_flat, (flat,), (v,))[1]
    pull = lambda u: jax.vjp(fun_flat, flat)[1](u)[0]
    return JacobianOperator((out.size, flat.size), out.dtype, push, pull, factor)


def _operator(fun, argnums, method, has_aux, args, kwargs) -> Any:
    if has_aux or isinstance(argnums, (tuple, list)):
        raise ValueError('output="operator" takes one argument number and no aux')
    (at,) = arguments.numbers_of(argnums, len(args))

    def one(x):
        return fun(*args[:at], x, *args[at + 1 :], **kwargs)

    return fun(*args, **kwargs), jacobian_operator(one, args[at], method=method)
