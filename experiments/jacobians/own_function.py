"""`python -m experiments jacobians --function package.module:f --shape 64`: all methods on a function of your own."""

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import jax

import grads


class UsageError(ValueError):
    """The command line asks for what there is not; the message is one line."""


class UserFunctionError(RuntimeError):
    """A user's module or function raised; the message is one line that says what."""


def own_function(path: str, shape: str) -> None:
    """Explain and compare all methods on `package.module:name` at a random input of this shape ("64", "8,3" or "").

    Raises UsageError for a path or a shape that means nothing, UserFunctionError where the user's code raises.
    """
    fun, x = load(path), normal(parse_shape(shape))
    try:
        out = jax.eval_shape(fun, x)
    except Exception as error:
        raise UserFunctionError(f"{path} of a {x.dtype} array of shape {x.shape} raised {_short(error)}") from error
    kinds = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(out)})
    if not any(jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact) for leaf in jax.tree.leaves(out)):
        what = f"{', '.join(kinds)} values only" if kinds else "no array"
        raise UserFunctionError(f"{path} returns {what}: a Jacobian needs floating point outputs")
    try:
        print(grads.explain(fun, x), "\n")
        print(grads.compare(fun, x))
    except Exception as error:
        raise UserFunctionError(f"{path} cannot be compared: {_short(error)}") from error


def load(path: str) -> Callable:
    """Import `package.module:name`. Raises UsageError, or UserFunctionError where the import itself raises."""
    module, _, name = path.partition(":")
    if not module or not name:
        raise UsageError(f"--function wants package.module:name, got {path!r}")
    sys.path.insert(0, str(Path.cwd()))
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise UsageError(f"--function: no module {error.name!r} (from {Path.cwd()} or installed)") from error
        raise UserFunctionError(f"importing {module} raised {_short(error)}") from error
    except (Exception, SystemExit) as error:
        raise UserFunctionError(f"importing {module} raised {_short(error)}") from error
    finally:
        sys.path.pop(0)
    target = loaded
    for part in name.split("."):
        if not hasattr(target, part):
            near = difflib.get_close_matches(part, [n for n in dir(target) if not n.startswith("_")], n=2, cutoff=0.4)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"--function: {module} has no {name!r}{hint}")
        target = getattr(target, part)
    if not callable(target):
        raise UsageError(f"--function: {path} is no function but {type(target).__name__} {str(target)[:60]!r}")
    return target


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


def _short(error: BaseException) -> str:
    """The type and the first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
