"""The table of Jacobian methods, and what a method must provide.

A user's call `jacobian(fun, argnums)(*args)` is first made flat (see `grads.calls.problem`): the differentiated
arguments become a list of array *leaves*, the outputs become a list of arrays, and everything else the function reads
(other arguments, closed-over arrays) becomes a list of *constants*. What is left is a `FlatProblem`:

    problem.inputs, problem.outputs   shapes and dtypes (`jax.ShapeDtypeStruct`) of leaves and of results
    problem.n, problem.m              total number of input and output elements
    problem.options                   `grads.calls.problem.JacobianOptions`: chunk_size, memory_limit, batch_axis, ...
    problem.graph                     the inlined program (`grads.programs.graph.Graph`), with activity and live sets
    problem.bind(constants)           the flat function `f(*leaves) -> tuple(outputs)`, constants bound

A method is three functions of a problem:

    supports(problem) -> None | str   None when the method can do it, else why not and what to use instead
    cost(problem) -> Cost | None      predicted work (None: no prediction, so `auto` does not consider it)
    build(problem) -> evaluate        `evaluate(constants, leaves) -> (outputs, jac)`, pure and traceable

`jac` is a list of lists of blocks, `jac[i][j]` of shape `outputs[i].shape + inputs[j].shape`; or a
`grads.matrices.factored.Factored` of shape (m, n) (outputs and inputs raveled and concatenated in order); or a
two-dimensional `jax.experimental.sparse.BCOO` of that shape; each possibly inside a `grads.calls.forms.Checked`. Dtypes
are cast to jacfwd's convention (the dtype of the output) by the caller, and the caller compiles `evaluate`, so a method
need not call `jax.jit`.

Every leaf of `problem.inputs` is floating point and differentiated; integer leaves were made constants before. A method
with parameters of its own (a sparsity pattern, a rank) is made by a function that returns a `Method`; `jacobian(...,
method=that)` accepts a `Method` wherever it accepts a name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from grads import arguments
from grads.calls.problem import FlatProblem
from grads.costs.cost import Cost


class Evaluation(Protocol):
    """What `build` returns: pure and traceable."""

    def __call__(self, constants: Sequence[Any], leaves: Sequence[Any]) -> tuple[Sequence[Any] | None, Any]:
        """Return (outputs, jac); None for the outputs leaves them to the caller."""
        ...


@dataclass(frozen=True)
class Method:
    """One way to evaluate a Jacobian: the three functions of the module's text, and what is promised of them.

    exact           False for approximations (finite differences, a randomised sketch): "auto" never chooses those
    automatic       False where "auto" may not even ask: no prediction, or one that costs more than it is worth
    keeps_batch     it can give one Jacobian per example, as `batch_axis` wants
    within          another method that has all plans of this one, at no higher prediction: "auto" asks only that one
    reads_integers  `build` looks at the values of integer constants (indices), in `problem.session["constants"]`, so
                    that its program is not reused for other values
    """

    name: str
    supports: Callable[[FlatProblem], str | None]
    cost: Callable[[FlatProblem], Cost | None]
    build: Callable[[FlatProblem], Evaluation]
    exact: bool = True
    reads_integers: bool = False
    automatic: bool = True
    keeps_batch: bool = False
    within: str | None = None


class UnsupportedMethodError(ValueError):
    """This Jacobian method cannot differentiate this function; the message says why and what to use instead."""


class UnknownMethodError(ValueError, KeyError):
    """No Jacobian method has this name."""

    def __str__(self) -> str:
        return str(self.args[0])


REGISTERED: dict[str, Method] = {}


def register_method(
    name: str,
    *,
    supports: Callable[[FlatProblem], str | None],
    cost: Callable[[FlatProblem], Cost | None],
    build: Callable[[FlatProblem], Evaluation],
    **properties: Any,
) -> Method:
    """Add a method to the registry (the same name again replaces the earlier method) and return it.

    `properties` are those of `Method`: exact, automatic, keeps_batch, within, reads_integers.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"a method's name is a non-empty string, got {name!r}")
    if name in ("auto", "autotune", "all"):
        raise ValueError(f"{name!r} is a way of choosing a method; pick another name")
    for role, function in (("supports", supports), ("cost", cost), ("build", build)):
        if not callable(function):
            raise TypeError(f"register_method({name!r}): {role} must be callable, got {function!r}")
    return register(Method(name, supports, cost, build, **properties))


def register(method: Method) -> Method:
    """Add a method to the registry and return it."""
    REGISTERED[method.name] = method
    return method


def methods() -> tuple[str, ...]:
    """Return the names of all registered methods, in order of registration."""
    return tuple(REGISTERED)


def get_method(name: "str | Method") -> Method:
    """Return the method of this name (a `Method` is returned as it is).

    Raises UnknownMethodError (a ValueError and a KeyError) naming the nearest registered names.
    """
    if isinstance(name, Method):
        return name
    if not isinstance(name, str):
        raise TypeError(f"method must be a name or a Method, got {name!r}")
    if name not in REGISTERED:
        known = [*REGISTERED, "auto", "autotune"]
        near = arguments.hint(name, known)
        raise UnknownMethodError(f"unknown Jacobian method {name!r}{near} known: {', '.join(known)}")
    return REGISTERED[name]
