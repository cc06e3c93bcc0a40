"""Every test runs in float64, with implicit rank promotion an error and warnings as errors."""

import gc
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
# Tests compile much and compute little: half the time goes without LLVM's expensive passes.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

# What one process compiled, the others of this run need not: workers and commands share a folder of programs.
PROGRAMS = None if "JAX_COMPILATION_CACHE_DIR" in os.environ else tempfile.mkdtemp(prefix="programs-")
SHARED = {
    "jax_compilation_cache_dir": PROGRAMS or os.environ["JAX_COMPILATION_CACHE_DIR"],
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for name, value in SHARED.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data files (AUTOENCODERS_DATA, else ../shared/data); skip without it."""
    folder = Path(os.environ.get("AUTOENCODERS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data files: {folder} is absent (set AUTOENCODERS_DATA)")
    return folder


def pytest_unconfigure() -> None:
    """Remove the folder of programs, in the process that made it."""
    if PROGRAMS:
        shutil.rmtree(PROGRAMS, ignore_errors=True)


LONGEST = ("test_combinations.py", "test_fields.py", "test_docs.py", "test_select.py", "test_tables.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes: a worker that got one last would run alone."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


MAPS = Path("/proc/self/maps")
MOST_MAPS = 15_000  # Linux allows a process 65,530; every compiled program takes a few, and beyond them XLA segfaults


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Forget the compiled programs of earlier files before they are more than a process can map."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


ONLY_SKIP = os.environ.get("ONLY_SKIP")  # where all extras are installed: the reasons that remain, as a pattern


def refused(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a skip fail whose reason ONLY_SKIP does not hold; what is expected to fail is no skip."""
    if ONLY_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not re.search(ONLY_SKIP, reason):
            report.outcome = "failed"
            report.longrepr = f"{reason}\nno test may skip here for another reason than: {ONLY_SKIP}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    refused(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    refused(report)
    return report
