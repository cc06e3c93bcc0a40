"""`compare`: every Jacobian method on one function, measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from grads import arguments
from grads.calls.problem import JacobianOptions, flatten_call
from grads.costs.timing import best, timed
from grads.jacobian import jacobian
from grads.methods.evaluate import problem_of
from grads.methods.registry import UnsupportedMethodError, get_method
from grads.methods.registry import methods as registered
from grads.testing.check import reference

CHOOSING = ("auto", "autotune")

__all__ = ["Comparison", "Measurement", "compare"]


@dataclass(frozen=True)
class Measurement:
    """One method: times in seconds, memory in bytes, operations as predicted, error relative to the largest entry.

    `refused` says why a method does not apply; its numbers are nan then.
    """

    method: str
    run: float = float("nan")
    compile: float = float("nan")
    temporary: float = float("nan")
    output: float = float("nan")
    operations: float = float("nan")
    error: float = float("nan")
    refused: str = ""


@dataclass(frozen=True)
class Comparison:
    """Measurements, fastest first, and the time of the function alone; prints as a table."""

    rows: tuple[Measurement, ...]
    primal: float

    def __getitem__(self, method: str) -> Measurement:
        return {row.method: row for row in self.rows}[method]

    @property
    def fastest(self) -> Measurement:
        """The row with the shortest run time."""
        return self.rows[0]

    def __str__(self) -> str:
        head = ("method", "run ms", "x primal", "compile s", "temp MB", "out MB", "Mops", "error")
        lines: list[tuple[str, ...]] = [head]
        for r in self.rows:
            if r.refused:
                lines.append((r.method, f"- {r.refused}", *[""] * 6))
                continue
            numbers = (1e3 * r.run, r.run / self.primal, r.compile, r.temporary / 1e6, r.output / 1e6)
            shown = [f"{v:.3g}" if v < 1e4 else f"{v:.0f}" for v in (*numbers, r.operations / 1e6)]
            lines.append((r.method, *shown, f"{r.error:.1e}"))
        wide = [max(len(line[i]) for line in lines if i == 0 or not line[1].startswith("- ")) for i in range(8)]
        return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(line, wide, strict=True)).rstrip() for line in lines)


def compare(
    fun: Callable, *args: Any, methods: str | Sequence[str] = "all", seconds: float = 1.0, repeats: int = 3
) -> Comparison:
    """Measure the Jacobian of `fun` with respect to args[0] by every method ("all" registered, or a list).

    Run times are minima, the methods taking turns in one process until `seconds` per method or at least `repeats`
    turns; compile time is tracing, lowering and compiling; temporary and output memory are XLA's `temp_size_in_bytes`
    and `output_size_in_bytes` (not the peak, which leaves temporaries out on CPU). Arguments are arguments of the
    program; what `fun` closes over becomes its constants. Raises UnknownMethodError for a name that is not registered.
    """
    arguments.callable_(fun, "compare")
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds!r}")
    arguments.count("repeats", repeats)
    one = (methods,) if isinstance(methods, str) else tuple(methods)
    names = [*registered(), "auto"] if one == ("all",) else list(one)
    for name in names:
        if name not in CHOOSING:
            get_method(name)
    flatten_call(fun, 0, args, {})  # refuses what cannot be differentiated
    want = reference(lambda x: fun(x, *args[1:]), args[0])
    problem, _ = problem_of(flatten_call(fun, 0, args, {}), JacobianOptions())
    rows: dict[str, Measurement] = {}
    calls: dict[str, Callable] = {}
    calls[""] = jax.jit(fun).lower(*args).compile()
    for name in names:
        try:
            rows[name], calls[name] = _first(fun, args, name, problem, want)
        except UnsupportedMethodError as error:
            rows[name] = Measurement(name, refused=str(error))
    runs = {name: partial(call, *args) for name, call in calls.items()}
    fastest = best(runs, turns=repeats, seconds=seconds * len(calls))
    primal = fastest.pop("")
    measured = [replace(row, run=fastest.get(name, float("nan"))) for name, row in rows.items()]
    return Comparison(tuple(sorted(measured, key=lambda r: (bool(r.refused), r.run))), primal)


def _first(fun: Callable, args: tuple, name: str, problem: Any, want: Any) -> tuple[Measurement, Callable]:
    took, compiled = timed(lambda: jax.jit(jacobian(fun, method=name)).lower(*args).compile())
    memory: Any = compiled.memory_analysis()
    cost = None if name in CHOOSING else get_method(name).cost(problem)
    got = compiled(*args)
    pairs = list(zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True))
    errors = [np.max(np.abs(np.asarray(a, b.dtype) - b)) / max(np.max(np.abs(b)), 1e-300) for a, b in pairs if b.size]
    return Measurement(
        name,
        compile=took,
        temporary=float(memory.temp_size_in_bytes),
        output=float(memory.output_size_in_bytes),
        operations=float("nan") if cost is None else float(cost.operations),
        error=float(max(errors, default=0.0)),
    ), compiled
