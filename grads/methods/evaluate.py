"""From a flat call to a compiled Jacobian: trace, choose, build, compile once per program.

Every call traces the user's function again (a closed-over parameter may have changed since), which takes about a
millisecond; the plan and the compiled program are looked up by the traced program itself: its equations, shapes, the
options and the device. Closed-over arrays are arguments of the compiled program, not constants in it.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grads.calls import forms
from grads.calls.problem import Call, FlatProblem, JacobianOptions
from grads.costs.machine import current
from grads.methods import select
from grads.methods.batched import layout
from grads.methods.registry import Method, UnsupportedMethodError, get_method
from grads.programs.fingerprint import fingerprint
from grads.programs.graph import Graph, trace
from grads.programs.sparsity import known_integers

_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
_COMPILED: OrderedDict[Any, tuple[Callable, list[Callable]]] = OrderedDict()
_KEEP = 256
_NO_PROGRAM = Graph((), (), (), (), (), frozenset())


def problem_of(call: Call, options: JacobianOptions) -> tuple[FlatProblem, tuple[Any, ...]]:
    """Trace a call; return the problem and the values of its constants."""
    graph, constants = trace(call.flat, call.leaves)
    avals = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in call.leaves)
    outs, aux = call.out_avals()
    session = {"fun": call.flat, "constants": constants}
    return FlatProblem(graph, avals, outs, aux, options, session), constants


def run(
    call: Call, options: JacobianOptions, method: str | Method, output: str, precision: Any
) -> tuple[list, list, Any]:
    """Return (output arrays, aux arrays, Jacobian in the form `output`)."""
    try:
        problem, constants = problem_of(call, options)
    except _UNTRACEABLE as error:
        return _untraceable(call, options, method, output, error)
    program = (
        fingerprint(problem.graph),
        problem.aux,
        options,
        method,
        output,
        precision,
        jax.default_backend(),
        current(),  # other rates, as after `calibrate()`, other choices
    )
    key = (*program, _indices(method, constants))
    if key not in _COMPILED:
        chosen = select.choose(problem, method, constants, call.leaves, key)
        errors: list[Callable] = []
        _COMPILED[key] = jax.jit(_program(problem, chosen, output, errors), inline=True), errors
        problem.session.clear()
        while len(_COMPILED) > _KEEP:
            _COMPILED.popitem(last=False)
    _COMPILED.move_to_end(key)
    compiled, errors = _COMPILED[key]
    values, aux, jac, wrong = compiled(constants, call.leaves)
    if wrong is not None and not isinstance(wrong, jax.core.Tracer) and wrong > 0:
        raise errors[0](constants, call.leaves, wrong)
    return values, aux, jac


def _indices(method: str | Method, constants: Sequence[Any]) -> tuple | None:
    """What tells the values of integer constants apart, for a method whose program depends on them."""
    if method in ("auto", "autotune") or not get_method(method).reads_integers:
        return None
    return tuple(
        None if c is None else hashlib.blake2b(np.asarray(c).tobytes()).digest() for c in known_integers(constants)
    )


def _program(problem: FlatProblem, method: Method, output: str, errors: list[Callable]) -> Callable:
    """The function to compile; tracing it leaves in `errors` what to raise where a claim proves wrong."""
    evaluate = method.build(problem) if problem.n and problem.m else _empty(problem)
    count = len(problem.outputs)

    def program(constants: Sequence[Any], leaves: Sequence[Any]):
        values, jac = evaluate(constants, leaves)
        results = problem.graph.evaluate(constants, leaves) if values is None or problem.aux else values
        if not isinstance(jac, forms.Checked):
            return list(results[:count]), list(results[count:]), forms.in_form(jac, problem, output), None
        errors[:] = [jac.error]
        shown = forms.poisoned(forms.in_form(jac.jac, problem, output), jac.wrong)
        return list(results[:count]), list(results[count:]), shown, jac.wrong

    return program


def _empty(problem: FlatProblem) -> Callable:
    """A Jacobian without entries."""
    shape = lambda o, i: (*o.shape, *i.shape)
    if problem.options.batch_axis is not None:
        lay = layout(problem)
        if isinstance(lay, str):
            raise UnsupportedMethodError(lay)
        outs = {id(o): np.delete(o.shape, at).tolist() for o, at in zip(problem.outputs, lay.out_axes, strict=True)}
        ins = {id(i): np.delete(i.shape, at).tolist() for i, at in zip(problem.inputs, lay.in_axes, strict=True)}
        shape = lambda o, i: (lay.count, *outs[id(o)], *ins[id(i)])
    return lambda constants, leaves: (
        None,
        [[jnp.zeros(shape(o, i), o.dtype) for i in problem.inputs] for o in problem.outputs],
    )


def _untraceable(
    call: Call, options: JacobianOptions, method: Any, output: str, error: Exception
) -> tuple[list, list, Any]:
    """Python control flow on values cannot be traced: differentiate operation by operation, as jacfwd does."""
    if method not in ("auto", "autotune", "fwd", "rev") or output not in ("dense", "transposed"):
        raise UnsupportedMethodError(
            "the function branches on the values of its arguments, so it cannot be traced "
            f"({type(error).__name__}): use method 'fwd', 'rev' or 'auto' with a dense output, "
            "or lax.cond / jnp.where in the function"
        ) from error
    results = call.flat(*call.leaves)
    outs, _ = call.out_avals()
    sizes = [sum(a.size for a in avals) for avals in (call.leaves, outs)]
    reverse = method == "rev" or (method != "fwd" and sizes[1] < sizes[0])
    transform = jax.jacrev if reverse else jax.jacfwd
    fun = lambda *leaves: list(call.flat(*leaves)[: len(outs)])
    blocks = transform(fun, tuple(range(len(call.leaves))), holomorphic=options.holomorphic)(*call.leaves)
    avals = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in call.leaves)
    problem = FlatProblem(_NO_PROGRAM, avals, outs, 0, options)  # only its shapes are read
    blocks = forms.in_form([list(row) for row in blocks], problem, output)
    return list(results[: len(outs)]), list(results[len(outs) :]), blocks


def forget() -> None:
    """Drop all compiled Jacobians and plans."""
    _COMPILED.clear()
