"""What every benchmark does alike: variants take turns on the clock; one shape of record."""

import functools
import shlex
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.reporting.words import describe
from experiments.running import store
from grads.costs.timing import race


def take_turns(variants: Mapping[str, tuple[Callable[[int], Any], int]], rounds: int) -> dict[str, dict[str, float]]:
    """Return ms per step of every variant: fastest and median of `rounds` interleaved turns, and processor time.

    variants: by name a function that runs so many steps and waits for the last, and the steps of a turn. All meet the
    same noise of a busy machine, which inflates processor time less than the clock's.
    """
    processor: dict[str, list[float]] = {name: [] for name in variants}

    def turn(name: str) -> None:
        run, steps = variants[name]
        start = time.process_time()
        run(steps)
        processor[name].append(time.process_time() - start)

    wall = race({name: functools.partial(turn, name) for name in variants}, turns=rounds)
    return {
        name: {
            f"{what}_ms": 1e3 * seconds / steps
            for what, seconds in (
                ("fastest", min(wall[name])),
                ("median", statistics.median(wall[name])),
                ("cpu", min(processor[name])),
            )
        }
        for name, (_, steps) in variants.items()
    }


def write(
    path: Path, file: str, argv: list[str], lines: list[str], measured: Mapping[str, Any], begin: float, **more: Any
) -> None:
    """Print a benchmark's lines and write its record: title, claim, command, lines, numbers, what it was made with.

    file: the benchmark's own, for its words. begin: `time.monotonic()` at its start. Raises training.RunError.
    """
    words, name = describe(Path(file)), Path(file).stem
    record = {
        "name": path.stem,
        "title": words.title,
        "claim": words.claim,
        "command": shlex.join(["python", "-m", "experiments", name, *argv]),
        **more,
        "lines": lines,
        "measured": measured,
    }
    print(*lines, sep="\n", flush=True)
    store.write_result(path, record | store.provenance(time.monotonic() - begin))
