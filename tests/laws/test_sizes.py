"""A folder shows its idea at a glance, and a file fits a sitting."""

import collections
import statistics
import subprocess

from . import source

ENTRIES = 14
GENERATED = {"experiments/results"}  # written by commands, one table each
ROOT_FILES = 24  # the folders of the source and what tools want to find beside them


def folders():
    """The entries of every folder that git tracks."""
    found = collections.defaultdict(set)
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    out = subprocess.run(command, cwd=source.ROOT, check=True, capture_output=True, text=True).stdout
    for path in out.splitlines():
        if (source.ROOT / path).exists():
            *around, _ = parts = path.split("/")
            for depth in range(len(around) + 1):
                found["/".join(parts[:depth])].add(parts[depth])
    return found


def test_at_most_14_entries_a_folder():
    counts = {name: len(entries - {"__init__.py", "py.typed"}) for name, entries in folders().items()}
    assert counts["models"] > 4
    assert counts.pop("") <= ROOT_FILES
    assert {name: n for name, n in counts.items() if n > ENTRIES and name not in GENERATED} == {}


def test_median_file_130_lines_and_none_above_350():
    lines = {name: len(path.read_text().splitlines()) for name, path in source.modules().items()}
    assert len(lines) > 100
    assert {name: n for name, n in lines.items() if n > 350} == {}
    assert statistics.median(n for name, n in lines.items() if source.modules()[name].name != "__init__.py") <= 130
