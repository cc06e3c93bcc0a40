"""Programs timed against each other: compile time, first call, fastest run, memory; each result seen once."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from grads import MemoryLimitError, UnsupportedMethodError

LONG = 0.05  # seconds of a run: below, three in a row, because the first one finds cold caches
FAR = 3.0  # times the best: an entry that far behind after three turns leaves the race to the others
STILL, TURNS = 10, 100  # the race ends when no minimum fell by 2 % in so many turns, at the latest after so many


@dataclass(frozen=True)
class Entry:
    """Seconds of a run (minimum), of trace + compile, and of the first call (compile, then run with cold caches).

    `temporary` and `output` are XLA's own account, in bytes.
    """

    run: float
    compile: float
    first: float
    temporary: int
    output: int


def race(
    functions: Mapping[str, Callable], args: tuple, *, seconds: float, see: Callable[[str, Any], None] = lambda *_: None
) -> dict[str, Entry | str]:
    """Compile every function and run them in turn for at most about `seconds`; a string says why one cannot be run.

    `see(name, result)` is called once with each result. The minimum over turns counts: on a machine that does other
    work all entrants meet the same noise. Entrants that compile to the same program are one runner and share its time.
    """
    out: dict[str, Entry | str] = {}
    programs: dict[str, Any] = {}
    runners: dict[str, str] = {}  # who runs for an entrant: the first one with its program
    texts: dict[str, str] = {}
    for name, fun in functions.items():
        try:
            out[name], program, result = _enter(fun, args)
        except (UnsupportedMethodError, MemoryLimitError) as error:
            out[name] = str(error)
            continue
        see(name, result)
        del result
        runners[name] = texts.setdefault(written(program), name)
        programs.setdefault(runners[name], program)
    best = {name: entry.first - entry.compile for name, entry in out.items() if isinstance(entry, Entry)}
    best = {name: min(best[n] for n in runners if runners[n] == name) for name in programs}
    begin, turn, fell, order = time.perf_counter(), 0, 0, list(programs)
    while turn < 3 or (turn < min(TURNS, fell + STILL) and time.perf_counter() - begin < seconds):
        turn += 1
        order = order[1:] + order[:1]  # nobody always follows the one that leaves the caches in the worst state
        for name in order:
            if turn > (3 if best[name] < 20 * LONG else 1) and best[name] > FAR * min(best.values()):
                continue
            for _ in range(3 if best[name] < LONG else 1):
                start = time.perf_counter()
                jax.block_until_ready(programs[name](*args))
                took = time.perf_counter() - start
                fell = turn if took < 0.98 * best[name] else fell
                best[name] = min(best[name], took)
    return {
        k: v if isinstance(v, str) else Entry(best[runners[k]], v.compile, v.first, v.temporary, v.output)
        for k, v in out.items()
    }


def written(program: Any) -> str:
    """Return a compiled program's instructions, without names and source lines, which equal programs may differ in."""
    text = program.as_text()
    body = re.sub(r", metadata=\{[^}]*\}", "", text[text.index("\n%" if "\n%" in text else "\nENTRY") :])
    body = re.sub(r"[\w.-]+: ", "", body)  # names of parameters in signatures
    seen: dict[str, str] = {}
    return re.sub(r"%[\w.-]+", lambda m: seen.setdefault(m[0], f"%{len(seen)}"), body)


def _enter(fun: Callable, args: tuple) -> tuple[Entry, Any, Any]:
    start = time.perf_counter()
    program = jax.jit(fun).lower(*args).compile()
    compiled = time.perf_counter()
    result = jax.block_until_ready(program(*args))
    ended = time.perf_counter()
    memory = program.memory_analysis()
    assert memory is not None, "this backend does not report the memory of a program"
    sizes = memory.temp_size_in_bytes, memory.output_size_in_bytes
    return Entry(np.inf, compiled - start, ended - start, *sizes), program, result
