"""Predicted costs of evaluating a Jacobian, and the cost of the plain ways."""

from dataclasses import dataclass, replace

from grads.calls.problem import FlatProblem
from grads.costs.machine import Number, current, moved_bytes, operations
from grads.costs.work import derivative_work


@dataclass(frozen=True)
class Cost:
    """Predicted cost of one evaluation.

    `operations`: floating point operations; `bytes`: memory traffic; `seconds`: predicted time; `memory`: peak bytes of
    temporaries plus output; `chunk`: columns (or rows) in flight at once, where there is such a choice.
    """

    operations: Number
    bytes: Number
    seconds: Number
    memory: Number
    chunk: int | None = None
    note: str = ""


def default_chunk(problem: FlatProblem, reverse: bool) -> int:
    """Columns (rows) at once: what fits the cache, at least 16, and no more than the memory limit allows."""
    total = problem.m if reverse else problem.n
    chunk = max(16, int(current().cache // max(problem.column_bytes, 1)))
    limit = problem.options.memory_limit
    if limit is not None:
        room = limit - 2 * problem.output_bytes - problem.value_bytes
        chunk = min(chunk, max(1, int(room // (2 * problem.column_bytes))))
    return max(1, min(chunk, total))


UNROLLED = 32  # passes at most that are written one after the other


def fresh(problem: FlatProblem, memory: Number, moved: Number) -> Number:
    """Seconds that one of many mapped examples costs more where the temporaries of all are too large for the cache."""
    machine = current()
    return moved / machine.bandwidth if memory * problem.options.mapped > 4 * machine.cache else 0.0


def one_by_one(problem: FlatProblem, reverse: bool) -> Cost | None:
    """Cost of few passes one after the other under an outer `vmap`: each reuses the temporaries of the one before. None
    where those of all passes at once stay in the cache.
    """
    total, mapped = problem.m if reverse else problem.n, problem.options.mapped
    if not 1 < total <= UNROLLED or not fresh(problem, 2 * problem.column_bytes * total, 1):
        return None
    works, out, machine = derivative_work(problem, reverse), problem.output_bytes, current()
    shared = replace(machine, dispatch=machine.dispatch / mapped)
    seconds = machine.seconds(works, 1) + total * shared.seconds(works, 1) + 2 * out / machine.bandwidth
    memory = 2 * problem.column_bytes + problem.value_bytes + 2 * out
    return Cost(operations(works, total), moved_bytes(works, total) + out, seconds, memory, 1, "one by one")


def plain_cost(problem: FlatProblem, reverse: bool, chunked: bool) -> Cost:
    """Predicted cost of pushing every basis vector through the whole function.

    memory = 2 * widest live set * columns in flight + values of the function + output (twice, where chunks are stacked
    and then transposed).
    """
    works, machine = derivative_work(problem, reverse), current()
    total = problem.m if reverse else problem.n
    chunk = (problem.options.chunk_size or default_chunk(problem, reverse)) if chunked else total
    chunk = max(1, min(chunk, total)) if total else 1
    count = -(-total // chunk)
    out = problem.output_bytes
    inside = machine.in_loop() if count > 1 else machine
    seconds = machine.seconds(works, 1) + count * inside.seconds(works, chunk)
    if count > 1:
        seconds += count * 5 * machine.dispatch + 2 * out / machine.bandwidth
    memory = 2 * problem.column_bytes * chunk + problem.value_bytes + out * (2 if count > 1 else 1)
    moved = count * moved_bytes(works, chunk) + out
    every = Cost(operations(works, total), moved, seconds, memory, chunk if chunked else None)
    if problem.options.mapped == 1:
        return every
    every = replace(every, seconds=seconds + fresh(problem, memory, moved))
    apart = None if chunked else one_by_one(problem, reverse)
    return every if apart is None or apart.seconds >= every.seconds else apart
