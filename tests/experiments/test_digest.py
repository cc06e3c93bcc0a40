"""The digest of the code: an edit of any file that a number depends on is seen, wherever the file lies."""

import json
import shutil
import subprocess
import sys

import pytest

from experiments.jacobians.grid import MEASURED
from experiments.running.store import TABLES, code_sha256

from ..conftest import ROOT

SHOW = """
import json, pathlib, sys
root = pathlib.Path.cwd()
found = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
ours = [pathlib.Path(file) for file in found if file and root in pathlib.Path(file).parents]
ours = [file for file in ours if pathlib.Path(sys.prefix) not in file.parents]  # an environment inside the checkout
print(json.dumps(sorted({str(file.relative_to(root)) for file in ours})))
"""
TABLE = """
import tempfile, pathlib
from experiments.running.run_table import run_table
from experiments.tables.optimizers import TABLE
run_table(TABLE, "optimizers", "smoke", 1, None, pathlib.Path(tempfile.mkdtemp()))
"""
CELL = """
from experiments.jacobians import grid
from experiments.running import store
grid.measure_cell(("dense", "encoder", 1, "float32"), grid.BUDGETS["tiny"], {})
"""


def imported(script):
    """The files of ours that a script has imported at its end, by path from the root."""
    command = [sys.executable, "-c", script + SHOW]
    out = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, timeout=300).stdout
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the source."""
    folder = tmp_path_factory.mktemp("copy") / "source"
    folder.mkdir()
    shutil.copy(ROOT / "train.py", folder)
    for name in ("models", "training", "data", "grads", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    return folder


def digest(parts, tree):
    """The digest of a tree as it is now."""
    return code_sha256.__wrapped__(parts, tree)


# a table's own file holds the configs, which are part of what identifies a run; cells are only written by the others
@pytest.mark.parametrize(
    ("script", "parts", "beside"),
    [(TABLE, TABLES, ("experiments/tables/",)), (CELL, MEASURED, ("experiments/running/", "training/"))],
)
def test_an_edit_of_any_file_that_a_number_depends_on_is_seen(tree, script, parts, beside):
    files = [name for name in imported(script) if not name.startswith(beside)]
    before = digest(parts, tree)
    assert before == code_sha256(parts)
    unseen = []
    for name in files:
        text = (tree / name).read_text()
        (tree / name).write_text(text + "\n# edited\n")
        if digest(parts, tree) == before:
            unseen.append(name)
        (tree / name).write_text(text)
    assert len(files) > 30
    assert unseen == []


def test_files_that_are_added_renamed_or_moved_are_seen(tree):
    seen = {digest(TABLES, tree)}
    new = tree / "models" / "deep" / "er" / "part.py"
    new.parent.mkdir(parents=True)
    new.write_text("x = 1\n")
    seen.add(digest(TABLES, tree))
    new = new.rename(new.with_name("other.py"))
    seen.add(digest(TABLES, tree))
    new.rename(tree / "models" / "deep" / "other.py")
    seen.add(digest(TABLES, tree))
    assert len(seen) == 4
