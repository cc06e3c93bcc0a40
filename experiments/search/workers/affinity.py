"""Which processor cores a worker uses: one."""

import os
from pathlib import Path

_kept: list[int] = []  # the core this process keeps to


def cores() -> list[int]:
    """Return the processor cores this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def has_accelerator() -> bool:
    """Whether this machine shows a GPU or TPU that the trials will use."""
    on_cpu = os.environ.get("JAX_PLATFORMS", "").startswith("cpu")
    return not on_cpu and (Path("/dev/nvidia0").exists() or Path("/dev/accel0").exists())


def take_core(number: int) -> None:
    """Keep this process on one core, before JAX starts, so that XLA makes one thread to run programs.

    Sums are then taken in the same order, and results have the same bits, for any number of workers; the cores
    are used by having a worker each. With an accelerator nothing is changed.
    """
    if hasattr(os, "sched_setaffinity") and not has_accelerator():
        have = cores()
        _kept.append(have[number % len(have)])
        os.sched_setaffinity(0, {_kept[-1]})


def is_worker() -> bool:
    """Whether this process was given a core by `take_core`."""
    return bool(_kept)


def default_workers() -> int:
    """Return one worker per core, and one only when there is an accelerator: a device is not shared."""
    return 1 if has_accelerator() else len(cores())
