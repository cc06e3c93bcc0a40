"""Choosing a method: by name, by predicted cost ("auto") or by measurement ("autotune")."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from grads.calls.problem import FlatProblem
from grads.costs.cost import Cost
from grads.costs.machine import current
from grads.costs.timing import best
from grads.methods.registry import REGISTERED, Method, UnsupportedMethodError, get_method

TUNED = 3  # how many methods "autotune" compiles and times
TIE = 3  # dispatches that a prediction does not tell apart
_WINNERS: dict[Any, str] = {}


class MemoryLimitError(ValueError):
    """No method, at any chunk size, meets the memory limit."""


@dataclass(frozen=True)
class Candidate:
    """One method for a problem: its predicted cost, or why it cannot be used."""

    method: Method
    cost: Cost | None
    reason: str | None

    @property
    def prediction(self) -> Cost:
        """The cost of a candidate that has one."""
        assert self.cost is not None, f"{self.method.name}: {self.reason or 'no prediction'}"
        return self.cost


def _eligible(problem: FlatProblem, method: Method) -> bool:
    """True where "auto" may choose this method for the problem."""
    return method.keeps_batch if problem.options.batch_axis is not None else method.exact and method.automatic


def predicted(problem: FlatProblem, every: bool = True, repeated: bool = False) -> list[Candidate]:
    """All registered methods with their predicted cost, or the reason against them; without `every` only those that
    `auto` may choose, and of plans that another method has too only if `repeated`.
    """
    rows = []
    options = problem.options
    # a limit of memory or a product to keep may rule out the plan that the other method takes
    repeated = repeated or options.memory_limit is not None or options.factored
    for method in REGISTERED.values():
        if every or (_eligible(problem, method) and (repeated or method.within not in REGISTERED)):
            reason = method.supports(problem)
            rows.append(Candidate(method, None if reason else method.cost(problem), reason))
    return rows


def ranked(problem: FlatProblem, rows: Sequence[Candidate]) -> list[Candidate]:
    """The exact candidates within the memory limit, fastest first; of those as good as the fastest, the one of fewest
    operations: a few dispatches more or less are shared by all examples under `vmap`, the operations are not.

    Raises MemoryLimitError when there are candidates but none of them meets the limit.
    """
    known = [r for r in rows if r.cost is not None and _eligible(problem, r.method)]
    limit = problem.options.memory_limit
    if not known:
        reasons = "; ".join(f"{r.method.name}: {r.reason}" for r in rows if r.reason)
        raise UnsupportedMethodError(f"no method can differentiate this function ({reasons})")
    fitting = [r for r in known if limit is None or r.prediction.memory <= limit]
    if not fitting:
        least = min(known, key=lambda r: r.prediction.memory)
        raise MemoryLimitError(
            f"memory_limit={limit} bytes: no method meets it; the least is {least.prediction.memory:.4g} bytes "
            f"({least.method.name}). Raise the limit, or use jacobian_operator or output='factored'"
        )
    fitting = sorted(fitting, key=lambda r: r.prediction.seconds)
    enough = fitting[0].prediction.seconds + TIE * current().dispatch
    tied = [r for r in fitting if r.prediction.seconds <= enough]
    return sorted(tied, key=lambda r: r.prediction.operations) + fitting[len(tied) :]


def choose(
    problem: FlatProblem, method: str | Method, constants: Sequence[Any], leaves: Sequence[Any], key: Any = None
) -> Method:
    """Return the method to use."""
    if not problem.n or not problem.m:
        return next(iter(REGISTERED.values()))  # nothing is to be computed
    if method == "autotune":
        return _tuned(problem, constants, leaves, key)
    if method == "auto":
        return ranked(problem, predicted(problem, every=False))[0].method
    chosen = get_method(method)
    if problem.options.batch_axis is not None and not chosen.keeps_batch:
        able = " or ".join(repr(name) for name, method in REGISTERED.items() if method.keeps_batch)
        raise UnsupportedMethodError(
            f"batch_axis needs method {able} or 'auto', not {chosen.name!r}; "
            "or use jax.vmap of the Jacobian of one example"
        )
    reason = chosen.supports(problem)
    if reason is not None:
        raise UnsupportedMethodError(f"method {chosen.name!r} cannot differentiate this function: {reason}")
    limit = problem.options.memory_limit
    cost = chosen.cost(problem) if limit is not None else None
    if limit is not None and cost is not None and cost.memory > limit:
        raise MemoryLimitError(
            f"memory_limit={limit} bytes: method {chosen.name!r} needs about {cost.memory:.4g} bytes; "
            "use 'auto', or a chunked method"
        )
    return chosen


def _tuned(problem: FlatProblem, constants: Sequence[Any], leaves: Sequence[Any], key: Any) -> Method:
    """Compile and time the most promising methods on values of these shapes; remember the winner."""
    if key not in _WINNERS:
        rows = ranked(problem, predicted(problem, every=False, repeated=True))[:TUNED]
        with jax.ensure_compile_time_eval():
            values = jax.tree.map(_stand_in, (list(constants), list(leaves)))
            runs = {r.method.name: jax.jit(r.method.build(problem)) for r in rows}
            times = best({name: partial(run, *values) for name, run in runs.items()})
        _WINNERS[key] = min(times, key=times.__getitem__)
    return get_method(_WINNERS[key])


def _stand_in(x: Any) -> Any:
    """The value itself, or for a traced value noise of its shape (keys and integers: zeros)."""
    if not isinstance(x, jax.core.Tracer):
        return x
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            jax.numpy.zeros((*x.shape, *jax.random.key_data(jax.random.key(0)).shape), np.uint32)
        )
    noise = np.random.default_rng(0).normal(size=x.shape) * 0.1
    return jax.numpy.asarray(noise if jax.dtypes.issubdtype(x.dtype, np.floating) else np.zeros(x.shape), x.dtype)
