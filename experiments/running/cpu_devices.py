"""One host device per core: XLA gives a CPU one device unless it is told otherwise before it starts."""

import os

FLAG = "--xla_force_host_platform_device_count"


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores() -> None:
    """Ask XLA for one CPU device per core; call before anything of JAX has run.

    A count that the user put in XLA_FLAGS stays. On other platforms the flag changes nothing.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {FLAG}={cores()}".strip()
