"""The one race of timers: calls take turns in one process, so that what disturbs one of them disturbs all."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax

__all__ = ["best", "race", "timed"]

Name = TypeVar("Name", bound=Hashable)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that `call()` and the arrays it returns take, and its result."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - start, result


def race(
    calls: Mapping[Name, Callable[[], Any]],
    *,
    turns: int = 5,
    seconds: int | float = 0,
    most: int = 1000,
    each: int = 1,
    warm: bool = True,
) -> dict[Name, list[float]]:
    """Return the seconds of every timed run of every call, in order of time.

    In one turn every call runs `each` times in a row (the first run after another function finds a cold cache). There
    are at least `turns` turns, more until `seconds` have passed in all, and never more than `most`. With `warm` every
    call runs once untimed before the first turn, which compiles it.
    """
    for call in calls.values() if warm else ():
        jax.block_until_ready(call())
    times: dict[Name, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for turn in range(most):
        if turn >= turns and time.perf_counter() - begin >= seconds:
            break
        for name, call in calls.items():
            times[name] += [timed(call)[0] for _ in range(each)]
    return times


def best(calls: Mapping[Name, Callable[[], Any]], **how: Any) -> dict[Name, float]:
    """Return the shortest run of every call in a `race` with these options: seconds."""
    return {name: min(times) for name, times in race(calls, **how).items()}
