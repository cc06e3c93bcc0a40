"""Counting operations over a jaxpr, and what they cost on this machine.

Operations are counted by our own rules, never by XLA's `cost_analysis`, which counts the body of a loop once.
The derivative of an equation with p tangents (or p cotangents) costs p times the linear part of the equation:
a matrix product 2 * out * contracted, a convolution 2 * out * kernel, an elementwise operation one per
element, a scan its length times its body.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grads.calls.problem import Problem
from grads.costs.machine import Machine, current
from grads.methods.registry import Cost, Number
from grads.programs.graph import is_float, is_var, size

FREE = {
    "reshape",
    "squeeze",
    "expand_dims",
    "stop_gradient",
    "copy",
    "copy_p",
    "broadcast_in_dim",
    "symbolic_zeros",
}
MOVES = FREE | {
    "transpose",
    "slice",
    "concatenate",
    "pad",
    "rev",
    "gather",
    "dynamic_slice",
    "split",
    "stack",
    "unstack",
    "select_n",
}
REDUCTIONS = ("reduce_", "cum", "argm", "sort", "top_k")
UNKNOWN_TRIPS = 16  # a while loop does not say how often it runs


@dataclass(frozen=True)
class Work:
    """Derivative work of one equation: per column (or row) and fixed; `smallest` without and `free` times
    columns.
    """

    kind: str
    operations: Number
    bytes: Number
    fixed_bytes: Number
    free: Number
    smallest: Number
    itemsize: int
    repeat: Number = 1.0

    def seconds(self, columns: Number, machine: Machine) -> Number:
        """Predicted time of this equation for so many columns at once."""
        rate = machine.rate(self.kind, min(self.free * columns, self.smallest), self.itemsize, self.repeat > 1)
        moved = self.bytes * columns
        transfer = moved / (machine.cached if moved < machine.cache else machine.bandwidth)
        transfer += self.fixed_bytes / machine.cached
        return self.repeat * (max(self.operations * columns / rate, transfer) + machine.dispatch)


def equation_work(eqn: Any, active: Iterable[Any], reverse: bool) -> list[Work]:
    """Return the work of the derivative of one equation with respect to its active operands."""
    name = eqn.primitive.name
    on = [is_var(v) and v in active for v in eqn.invars]
    if not any(on) or not any(is_float(o.aval) for o in eqn.outvars):
        return []
    inner = _inner_work(eqn, on, reverse)
    if inner is not None:
        return inner
    out = sum(size(o) for o in eqn.outvars)
    itemsize = max(o.aval.dtype.itemsize for o in eqn.outvars)
    if name == "dot_general":
        return [_dot_work(eqn, i, itemsize) for i in (0, 1) if on[i]]
    if name == "conv_general_dilated":
        return [_conv_work(eqn, i, reverse, itemsize) for i in (0, 1) if on[i]]
    read = sum(size(v) for v, a in zip(eqn.invars, on, strict=True) if a)
    if name in FREE and (name != "broadcast_in_dim" or out == read):
        return []
    operations = 0 if name in MOVES else max(out, read) if name.startswith(REDUCTIONS) else out * sum(on)
    # XLA fuses neighbouring elementwise operations: about one in three reads and writes memory
    return [Work("elementwise", operations, (out + read) * itemsize / 3, 0, math.inf, math.inf, itemsize)]


def _dot_work(eqn: Any, operand: int, itemsize: int) -> Work:
    (lhs_c, _), (lhs_b, _) = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    contract = math.prod(shape[i] for i in lhs_c)
    batch = math.prod(shape[i] for i in lhs_b)
    mine, other = eqn.invars[operand], eqn.invars[1 - operand]
    out = size(eqn.outvars[0])
    free = size(mine) / max(contract * batch, 1)
    width = min(contract, size(other) / max(contract * batch, 1))
    moved = (size(mine) + out) * itemsize
    return Work("dot", 2.0 * out * contract, moved, size(other) * itemsize, free, width, itemsize)


def _conv_work(eqn: Any, operand: int, reverse: bool, itemsize: int) -> Work:
    spec = eqn.params["dimension_numbers"]
    kernel = eqn.invars[1].aval.shape
    taps = math.prod(kernel[i] for i in spec.rhs_spec[1:])
    dilation = math.prod(eqn.params["lhs_dilation"])
    strided = math.prod(eqn.params["window_strides"]) > 1
    out = size(eqn.outvars[0])
    slow = (dilation > 1) != (reverse and (strided or dilation > 1)) or operand == 1
    channels = min(kernel[spec.rhs_spec[0]], kernel[spec.rhs_spec[1]])
    moved = (size(eqn.invars[operand]) + out) * itemsize
    kind = "conv_transposed" if slow else "conv"
    return Work(kind, 2.0 * out * taps / dilation, moved, size(eqn.invars[1]) * itemsize, math.inf, channels, itemsize)


def _inner_work(eqn: Any, on: Sequence[bool], reverse: bool) -> list[Work] | None:
    """Work of an equation that calls other programs: loops, branches, custom derivatives; None for the
    others.
    """
    name, params = eqn.primitive.name, eqn.params
    if name == "while":
        body, skip = params["body_jaxpr"], params["cond_nconsts"]
        return _scaled(_program_work(body, on[skip:], reverse), UNKNOWN_TRIPS)
    if name == "scan":
        return _scaled(_program_work(params["jaxpr"], on, reverse), params["length"])
    if name == "cond":
        options = [_program_work(b, on[1:], reverse) for b in params["branches"]]
        return max(options, key=lambda works: sum(w.operations for w in works))
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    if inner is None or not hasattr(getattr(inner, "jaxpr", inner), "eqns"):
        return None
    works = _program_work(inner, on, reverse)
    return _scaled(works, 2) if reverse and name.startswith(("remat", "checkpoint")) else works


def _program_work(program: Any, on: Sequence[bool], reverse: bool) -> list[Work]:
    jaxpr = getattr(program, "jaxpr", program)
    active = {v for v, a in zip(jaxpr.invars, on, strict=False) if a}
    works = []
    for e in jaxpr.eqns:
        works += equation_work(e, active, reverse)
        if any(is_var(v) and v in active for v in e.invars):
            active.update(o for o in e.outvars if is_float(o.aval))
    return works


def _scaled(works: list[Work], times: Number) -> list[Work]:
    return [Work(**{**vars(w), "repeat": w.repeat * times}) for w in works]


def operations(works: Iterable[Work], columns: Number) -> Number:
    """Total operations of these equations for so many columns."""
    return sum(w.operations * w.repeat for w in works) * columns


def graph_work(problem: Problem, reverse: bool) -> list[Work]:
    """Derivative work of the whole function."""
    active = problem.graph.active
    carrying = (e for e in problem.graph.body if any(o in active for o in e.outvars))
    return [w for e in carrying for w in equation_work(e, active, reverse)]


def moved_bytes(works: Iterable[Work], columns: Number) -> Number:
    """Total memory traffic of these equations for so many columns."""
    return sum((w.bytes * columns + w.fixed_bytes) * w.repeat for w in works)


def column_bytes(problem: Problem) -> Number:
    """Bytes that one column (or row) holds at its widest: the widest live set."""
    width = max((*problem.graph.widths, problem.n, problem.m))
    return float(width * problem.dtype.itemsize)


def output_bytes(problem: Problem) -> Number:
    """Bytes of the dense Jacobian."""
    return float(problem.m * problem.n * problem.dtype.itemsize)


def value_bytes(problem: Problem) -> Number:
    """Bytes of all values of the function itself: what a linearisation may keep."""
    return float(sum(size(o) for e in problem.graph.body for o in e.outvars) * problem.dtype.itemsize)


def default_chunk(problem: Problem, direction: str) -> int:
    """Columns (rows) at once: what fits the cache, at least 16, and no more than the memory limit allows."""
    total = problem.n if direction == "fwd" else problem.m
    chunk = max(16, int(current().cache // max(column_bytes(problem), 1)))
    limit = problem.options.memory_limit
    if limit is not None:
        room = limit - 2 * output_bytes(problem) - value_bytes(problem)
        chunk = min(chunk, max(1, int(room // (2 * column_bytes(problem)))))
    return max(1, min(chunk, total))


def plain_cost(problem: Problem, direction: str, chunked: bool) -> Cost:
    """Predicted cost of pushing every basis vector through the whole function.

    memory = 2 * widest live set * columns in flight + values of the function + output (twice, where chunks are
    stacked and then transposed).
    """
    machine = current()
    works = graph_work(problem, direction == "rev")
    total = problem.n if direction == "fwd" else problem.m
    chunk = (problem.options.chunk_size or default_chunk(problem, direction)) if chunked else total
    chunk = max(1, min(chunk, total)) if total else 1
    count = -(-total // chunk)
    out = output_bytes(problem)
    inside = machine.in_loop() if count > 1 else machine
    seconds = sum(w.seconds(1, machine) for w in works) + count * sum(w.seconds(chunk, inside) for w in works)
    if count > 1:
        seconds += count * 5 * machine.dispatch + 2 * out / machine.bandwidth
    memory = 2 * column_bytes(problem) * chunk + value_bytes(problem) + out * (2 if count > 1 else 1)
    moved = count * moved_bytes(works, chunk) + out
    return Cost(operations(works, total), moved, seconds, memory, chunk if chunked else None)
