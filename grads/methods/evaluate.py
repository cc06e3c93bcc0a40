"""From a flat call to a compiled Jacobian: trace, choose, build, compile once per program.

Every call traces the user's function again (a closed-over parameter may have changed since), which takes about a
millisecond; the plan and the compiled program are looked up by the traced program itself: its equations, shapes, the
options and the device. Closed-over arrays are arguments of the compiled program, not constants in it.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from grads.programs.fingerprint import fingerprint, short_key
from grads.programs.graph import Graph, examples_outside, opened_graph
from grads.programs.primitives import HOLDING
from grads.programs.rules import LeakedRuleError, check_leaks
from grads.programs.sparsity import known_integers
from grads.programs.widened import wide_dtypes, widened

_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
    LeakedRuleError,
)
_COMPILED: OrderedDict[Any, tuple[Callable, list[Callable]]] = OrderedDict()
_LOOKED_UP: OrderedDict[Any, tuple[Any, tuple[Any, ...]]] = OrderedDict()
_KEEP = 256
_NO_PROGRAM = Graph((), (), (), (), (), frozenset())


@dataclass(frozen=True)
class _Traced:
    """A call's program as JAX traced it, and the trace, which has ended."""

    program: Any
    ended: Any


def _trace(fun: Callable, leaves: Sequence[Any]) -> _Traced:
    ended: list[Any] = []

    def flat(*xs):
        ended.extend(getattr(x, "_trace", None) for x in xs[:1])
        return tuple(fun(*xs))

    return _Traced(jax.make_jaxpr(flat)(*leaves), next(iter(ended), None))


def _opened(traced: _Traced) -> tuple[Graph, tuple[Any, ...]]:
    """The graph and its constants; raise LeakedRuleError where a custom rule does not outlive the trace."""
    graph, constants = opened_graph(traced.program)
    if held := [e for e in graph.eqns if e.primitive.name in HOLDING]:
        check_leaks(held, traced.ended)
    return graph, constants


def problem_of(
    call: Call, options: JacobianOptions, traced: _Traced | None = None
) -> tuple[FlatProblem, tuple[Any, ...], tuple[Any, ...]]:
    """Trace a call; return the problem, the values of its constants, and its leaves as the problem takes them."""
    fun, leaves = call.flat, call.leaves
    graph, constants = _opened(traced or _trace(fun, leaves))
    outs, aux = call.out_avals()
    thin = min([x.dtype.itemsize for x in leaves], default=4) < 4
    if thin and (wide := wide_dtypes(leaves, outs)) is not None:
        fun = widened(fun, [x.dtype for x in leaves])
        leaves = tuple(x.astype(d) for x, d in zip(leaves, wide, strict=True))
        graph, constants = _opened(_trace(fun, leaves))
    avals = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)
    session = {"fun": fun, "constants": constants}
    return FlatProblem(graph, avals, outs, aux, options, session), constants, leaves


def run(
    call: Call, options: JacobianOptions, method: str | Method, output: str, precision: Any
) -> tuple[list, list, Any]:
    """Return (output arrays, aux arrays, Jacobian in the form `output`)."""
    if any(isinstance(x, jax.core.Tracer) for x in call.leaves):
        options = replace(options, mapped=examples_outside(call.leaves))
    asked = (options, method, output, precision, jax.default_backend(), current())  # other rates, other choices
    try:
        traced = _trace(call.flat, call.leaves)
        short = short_key(traced.program)
        at = (short, call.out_avals(), asked)
        if short is not None and at in _LOOKED_UP and _LOOKED_UP[at][0] in _COMPILED:
            key, inner = _LOOKED_UP[at]
            constants, leaves = (*traced.program.consts, *inner), call.leaves
        else:
            key, constants, leaves = _compiled(call, options, method, output, asked, traced)
            if leaves is call.leaves:  # else the compiled program is of another trace
                _remember(at, key, constants[len(traced.program.consts) :])
    except _UNTRACEABLE as error:
        return _untraceable(call, options, method, output, error)
    _COMPILED.move_to_end(key)
    compiled, errors = _COMPILED[key]
    values, aux, jac, wrong = compiled(constants, leaves)
    if wrong is not None and not isinstance(wrong, jax.core.Tracer) and wrong > 0:
        raise errors[0](constants, leaves, wrong)
    return values, aux, jac


def _compiled(
    call: Call, options: JacobianOptions, method: str | Method, output: str, asked: tuple, traced: _Traced
) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    """Find or make the compiled Jacobian; return its key in `_COMPILED`, its constants and its leaves."""
    problem, constants, leaves = problem_of(call, options, traced)
    stored = output == "bcoo" and method == "auto"  # the entries of a pattern are fewer than all
    indices = _indices("sparse" if stored else method, constants)
    key = (fingerprint(problem.graph), problem.aux, *asked, indices)
    if key not in _COMPILED:
        chosen = (_sparse(problem) if stored else None) or select.choose(problem, method, constants, leaves, key)
        errors: list[Callable] = []
        _COMPILED[key] = jax.jit(_program(problem, chosen, output, errors), inline=True), errors
        problem.session.clear()
        while len(_COMPILED) > _KEEP:
            _COMPILED.popitem(last=False)
    return key, constants, leaves


def _remember(at: tuple, key: tuple, inner: Sequence[Any]) -> None:
    """Keep the way from a short key to a compiled Jacobian, but for programs that hold the values of a trace, or whose
    compiled form depends on the values of constants.
    """
    if at[0] is None or key[-1] is not None or any(isinstance(c, jax.core.Tracer) for c in inner):
        return
    _LOOKED_UP[at] = key, tuple(inner)
    while len(_LOOKED_UP) > _KEEP:
        _LOOKED_UP.popitem(last=False)


def _sparse(problem: FlatProblem) -> Method | None:
    """The method "sparse" where the program shows that entries are zero."""
    method = get_method("sparse")
    if not problem.n or not problem.m or method.supports(problem) is not None or problem.options.memory_limit:
        return None
    try:
        method.build(problem)
    except UnsupportedMethodError:
        return None
    return method


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
    """Python control flow on values cannot be traced, and a rule that holds an array of its own call cannot be kept:
    differentiate operation by operation, as jacfwd does.
    """
    if method not in ("auto", "autotune", "fwd", "rev") or output not in ("dense", "transposed"):
        raise UnsupportedMethodError(
            "the function branches on the values of its arguments, or passes an array in nondiff_argnums, so it cannot "
            f"be traced ({type(error).__name__}): use method 'fwd', 'rev' or 'auto' with a dense output, "
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
    _LOOKED_UP.clear()
