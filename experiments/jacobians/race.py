"""Programs raced against each other: compile time, first call, fastest run, memory; each result seen once."""

import functools
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from grads import MemoryLimitError, UnsupportedMethodError
from grads.costs.timing import best

LONG = 0.05  # seconds of a run: below, three in a row, because the first one finds cold caches
FAR = 3.0  # times the fastest: a runner that far behind leaves the race to the others


@dataclass(frozen=True)
class Entry:
    """Seconds of a run (minimum), of trace + compile, and of the first call (compile, then run with cold caches).

    `temporary` and `output` are XLA's own account, in bytes. `refused` says why it cannot be run; then all are nan.
    """

    run: float = np.nan
    compile: float = np.nan
    first: float = np.nan
    temporary: float = np.nan
    output: float = np.nan
    refused: str = ""


def race(
    functions: Mapping[str, Callable], args: tuple, *, seconds: float, see: Callable[[str, Any], None] = lambda *_: None
) -> dict[str, Entry]:
    """Compile every function and run them in turn for about `seconds`, the fast ones longest.

    `see(name, result)` is called once with each result. The minimum over turns counts: on a machine that does other
    work all runners meet the same noise. Entrants that compile to the same program are one runner and share its time.
    """
    entries: dict[str, Entry] = {}
    programs: dict[str, Callable] = {}
    runners: dict[str, str] = {}  # who runs for an entrant: the first one with its program
    texts: dict[str, str] = {}
    for name, fun in functions.items():
        try:
            entries[name], program, result = enter(fun, args)
        except (UnsupportedMethodError, MemoryLimitError) as error:
            entries[name] = Entry(refused=str(error))
            continue
        see(name, result)
        del result
        runners[name] = texts.setdefault(written(program), name)
        programs.setdefault(runners[name], functools.partial(program, *args))
    times = fastest(programs, seconds)
    return {name: replace(e, run=times[runners[name]]) if name in runners else e for name, e in entries.items()}


def fastest(runs: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Return the shortest run of each: one turn of all, three of those not far behind or short, then the leaders'."""
    times = best(runs, turns=1, warm=False)
    for part, longest in ((0.0, 20 * LONG), (1.0, 0.0)):
        ahead = FAR * min(times.values(), default=0.0)
        kept = {name: run for name, run in runs.items() if times[name] <= max(ahead, longest)}
        each = 3 if min(times.values(), default=0.0) < LONG else 1
        found = best(kept, turns=3, seconds=part * seconds, most=100, each=each, warm=False)
        times |= {name: min(value, times[name]) for name, value in found.items()}
    return times


def written(program: Any) -> str:
    """Return a compiled program's instructions, without names and source lines, which equal programs may differ in."""
    text = program.as_text()
    body = re.sub(r", metadata=\{[^}]*\}", "", text[text.index("\n%" if "\n%" in text else "\nENTRY") :])
    body = re.sub(r"[\w.-]+: ", "", body)  # names of parameters in signatures
    seen: dict[str, str] = {}
    return re.sub(r"%[\w.-]+", lambda m: seen.setdefault(m[0], f"%{len(seen)}"), body)


def enter(fun: Callable, args: tuple) -> tuple[Entry, Callable, Any]:
    """Return an entry without its fastest run, the compiled program and its result."""
    start = time.perf_counter()
    program = jax.jit(fun).lower(*args).compile()
    compiled = time.perf_counter()
    result = jax.block_until_ready(program(*args))
    ended = time.perf_counter()
    memory = program.memory_analysis()
    assert memory is not None, "this backend does not report the memory of a program"
    sizes = memory.temp_size_in_bytes, memory.output_size_in_bytes
    return Entry(np.nan, compiled - start, ended - start, *sizes), program, result
