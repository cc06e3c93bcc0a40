"""`python -m experiments jacobians --function package.module:f --shape 64`: all methods on a function of your own."""

from collections.abc import Callable

import jax

import grads
from experiments.running.named import UsageError, UserFunctionError, load, short


def own_function(path: str, shape: str) -> None:
    """Explain and compare all methods on `package.module:name` at a random input of this shape ("64", "8,3" or "").

    Raises UsageError for a path or a shape that means nothing, UserFunctionError where the user's code raises.
    """
    fun, x = load_function(path), normal(parse_shape(shape))
    try:
        out = jax.eval_shape(fun, x)
    except Exception as error:
        raise UserFunctionError(f"{path} of a {x.dtype} array of shape {x.shape} raised {short(error)}") from error
    kinds = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(out)})
    if not any(jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact) for leaf in jax.tree.leaves(out)):
        what = f"{', '.join(kinds)} values only" if kinds else "no array"
        raise UserFunctionError(f"{path} returns {what}: a Jacobian needs floating point outputs")
    try:
        print(grads.explain(fun, x), "\n")
        print(grads.compare(fun, x))
    except Exception as error:
        raise UserFunctionError(f"{path} cannot be compared: {short(error)}") from error


def load_function(path: str) -> Callable:
    """Return the function that `package.module:name` names. Raises UsageError, or what `named.load` raises."""
    target = load(path)
    if not callable(target):
        raise UsageError(f"--function: {path} is no function but {type(target).__name__} {str(target)[:60]!r}")
    return target  # type: ignore[no-any-return]


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the shape that "64", "8,3" or "" (a number) says. Raises UsageError."""
    try:
        shape = tuple(int(part) for part in text.strip("() ").split(",") if part.strip())
    except ValueError:
        raise UsageError(f"--shape wants whole numbers such as 64 or 8,3, got {text!r}") from None
    if any(d < 1 for d in shape):
        raise UsageError(f"--shape wants positive numbers, got {text!r}")
    return shape


def normal(shape: tuple[int, ...]) -> jax.Array:
    """Return a fixed standard normal sample."""
    return jax.random.normal(jax.random.key(0), shape)
