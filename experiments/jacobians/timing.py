"""Timing of compiled functions: interleaved minima in one process, and XLA's own account of memory."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Timing:
    """Seconds of one run (minimum) and of trace + compile; bytes of temporaries and of output."""

    run: float
    compile: float
    temporary: int
    output: int


def measure(
    functions: Mapping[str, Callable], args: tuple, *, rounds: int = 7, seconds: float = 20.0
) -> dict[str, Timing]:
    """Compile every function, then run them in turn; the minimum of each over the rounds (or `seconds`)."""
    compiled, info = {}, {}
    for name, fun in functions.items():
        start = time.perf_counter()
        program = jax.jit(fun).lower(*args).compile()
        memory = program.memory_analysis()
        assert memory is not None, "this backend does not report the memory of a program"
        info[name] = (time.perf_counter() - start, memory.temp_size_in_bytes, memory.output_size_in_bytes)
        compiled[name] = program
        jax.block_until_ready(program(*args))
    best = dict.fromkeys(functions, float("inf"))
    begin = time.perf_counter()
    for turn in range(rounds):
        if turn >= 3 and time.perf_counter() - begin > seconds:
            break
        for name, program in compiled.items():
            for _ in range(3):  # the first run after another function finds a cold cache
                start = time.perf_counter()
                jax.block_until_ready(program(*args))
                best[name] = min(best[name], time.perf_counter() - start)
    return {name: Timing(best[name], *info[name]) for name in functions}


def plain(fun: Callable, batch: bool, methods: tuple[str, ...] = ("fwd", "rev")) -> dict[str, Callable]:
    """jacfwd and jacrev of `fun(params, x)` with respect to x, mapped over a batch if asked."""
    transforms = {"fwd": ("jacfwd", jax.jacfwd), "rev": ("jacrev", jax.jacrev)}
    return {transforms[m][0]: mapped(transforms[m][1], fun, batch) for m in methods}


def mapped(transform: Callable, fun: Callable, batch: bool) -> Callable[[Any, Any], Any]:
    """`transform` of `x -> fun(params, x)`, mapped over the leading axis of x if `batch`."""

    def one(params, x):
        return transform(lambda v: fun(params, v))(x)

    return jax.vmap(one, in_axes=(None, 0)) if batch else one


def inputs(count: int, batch: int, dtype: Any) -> jax.Array:
    """Random inputs: (count,) for batch 1, else (batch, count)."""
    shape = (count,) if batch == 1 else (batch, count)
    return jax.random.normal(jax.random.key(3), shape, dtype)
