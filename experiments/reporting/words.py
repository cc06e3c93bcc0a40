"""The words of an experiment: the docstring of its file, read without running it."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

LABELS = ("claim", "source", "command", "cost", "expected", "caveats")


TABLES = Path(__file__).resolve().parent.parent / "tables"


class Words(NamedTuple):
    """First line and labelled paragraphs of a docstring; empty where one is absent."""

    title: str
    claim: str
    source: str
    command: str
    cost: str
    expected: str
    caveats: str
    """what speaks against the claim, or limits it"""


def shelf() -> dict[str, Path]:
    """Return the files of all tables and studies by name, those of the folder itself first, then subject by subject."""
    paths = sorted(TABLES.rglob("*.py"), key=lambda path: (len(path.parts), path))
    return {path.stem: path for path in paths if path.stem != "__init__"}


def describe(path: Path) -> Words:
    """Return the words of the experiment in a file: lines that begin with "Claim:", "Source:", ... until the next."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    title, _, rest = text.partition("\n")
    found = dict.fromkeys(LABELS, "")
    label = ""
    for line in rest.splitlines():
        match = re.match(r"(\w+): *(.*)", line)
        if match and match[1].lower() in LABELS:
            label, line = match[1].lower(), match[2]
        if not line.strip():
            label = ""
        elif label:
            found[label] = f"{found[label]} {line.strip()}".strip()
    return Words(title.rstrip("."), **found)
