"""What is imported is declared, what is declared is locked, and the locks hold hashes alone."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

from . import source

PROJECT = tomllib.loads((source.ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ("requirements.lock", "requirements-test.lock", "requirements-extras.lock")  # each holds the one before
UNLOCKED = {"tensorflow-cpu"}  # of the extras that no test needs; those for GPU and TPU are extras of jax
CALLED = {"PIL": "pillow", "sklearn": "scikit-learn", "tensorflow": "tensorflow-cpu", "mlflow": "mlflow-skinny"}
CALLED |= {"skimage": "scikit-image", "umap": "umap-learn"}
OURS = {*source.PACKAGES, "train", "tests", *sys.stdlib_module_names}


def canonical(name: str) -> str:
    """A distribution's name as indices compare it."""
    return re.sub(r"[-_.]+", "-", re.findall(r"^[\w.-]+", name)[0]).lower()


def distributions(lines: Iterable[str]) -> set[str]:
    return {canonical(line) for line in lines}


BASE = distributions(PROJECT["dependencies"])
EXTRAS = {name: distributions(lines) for name, lines in PROJECT["optional-dependencies"].items()}
EVERY = BASE.union(*EXTRAS.values())


def foreign(files: Iterable[Path], names) -> dict[str, str]:
    """The distributions that files import, each with one file that does; `names` lists a file's modules."""
    return {
        canonical(CALLED.get(top, top)): str(path.relative_to(source.ROOT))
        for path in files
        for module in names(path)
        if (top := module.partition(".")[0]) not in OURS
    }


def anywhere(path: Path) -> list[str]:
    """Every module that a file imports; relative imports are ours whatever they name."""
    return [module for module, _ in source.imported(path, "train" + ".x" * 9)]


def at_the_top(path: Path) -> list[str]:
    nodes = source.tree(path).body
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return plain + [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]


def test_what_is_imported_is_declared():
    found = foreign(source.modules().values(), anywhere)
    assert {"jax", "scipy", "ml-dtypes", "pillow"} <= set(found)
    assert {name: file for name, file in found.items() if name not in EVERY} == {}
    tests = foreign((source.ROOT / "tests").rglob("*.py"), anywhere)
    assert {name: file for name, file in tests.items() if name not in EVERY} == {}


def test_what_a_file_imports_at_its_top_is_no_extra():
    """An extra may be absent. Two modules are one extra's own, and are themselves imported inside functions."""
    own = ("engine_ray", "optuna_sampler")
    found = foreign((path for name, path in source.modules().items() if not name.endswith(own)), at_the_top)
    assert {"jax", "numpy"} <= set(found)
    assert {name: file for name, file in found.items() if name not in BASE} == {}


def pins(lock: str) -> dict[str, str]:
    """The pinned distributions of a lock, each with its hashes; every line of the file is one of these."""
    text = (source.ROOT / lock).read_text()
    lines = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    entry = r"^([\w.-]+)==[\w.+!]+(?: ; [^\\\n]+)? \\\n((?: {4}--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
    assert re.sub(entry, "", lines, flags=re.MULTILINE) == "", f"{lock} holds more than pins and hashes"
    return {canonical(name): hashes for name, hashes in re.findall(entry, lines, flags=re.MULTILINE)}


@pytest.mark.parametrize("lock", [*LOCKS, "requirements-build.lock"])
def test_locks_are_hashed_and_name_no_index(lock):
    assert pins(lock)
    assert "://" not in (source.ROOT / lock).read_text()


def test_what_is_declared_is_locked():
    plain, test, extras = (set(pins(lock)) for lock in LOCKS)
    assert BASE <= plain <= test <= extras
    assert EXTRAS["test"] <= test
    assert EVERY - UNLOCKED <= extras
