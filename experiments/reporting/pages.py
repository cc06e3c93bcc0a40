"""Tables in Markdown pages, generated from results/ between markers.

    <!-- results: NAME -->        the table, its command and its footer line
    <!-- /results -->

`python -m experiments readme [FILE ...]` (default: README.md) rewrites what is between them; `--check` only says which
files differ (exit code 1). All finished tables, with figures, are in experiments/results/README.md, written too.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from experiments.reporting import report
from experiments.reporting.words import describe, shelf
from experiments.running import store
from training import RunError
from training.store.files import write_text

BLOCK = re.compile(r"(<!-- results: (?P<name>[\w-]+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def record_of(path: Path) -> dict[str, Any] | None:
    """Return a result with the words of its experiment as they are now: they are no measurement."""
    record, source = store.read_result(path), shelf().get(path.stem)
    if record is None or "differs" not in record or source is None:
        return record
    words = describe(source)
    return record | {key: getattr(words, key) for key in ("title", "claim", "source", "caveats") if key in record}


def block(name: str, folder: Path = store.RESULTS) -> str:
    """Return what belongs between the markers of a table: table, command, footer, or that it was not run."""
    record = record_of(folder / f"{name}.json")
    if record is None:
        return f"(not run yet: `python -m experiments {name}`)\n"
    if "differs" not in record:
        return "\n".join([f"**{record['title']}.** `{record['command']}`\n", "```", *record["lines"], "```", ""])
    note = f" Not the paper's protocol: {record['differs']}." if record["differs"] else ""
    head = f"**{record['title']}.** {record['claim']}"
    head += f" {record['caveats']}" if record.get("caveats") else ""
    table, foot = report.tables(record), report.footer(record)
    return f"{head}\n\n{table}\n\n`{record['command']}`: {foot}{note}\n"


def rewrite(text: str, folder: Path = store.RESULTS) -> str:
    """Return a page with every marked block made anew."""
    return BLOCK.sub(lambda m: f"{m[1]}{block(m['name'], folder)}{m[3]}", text)


def page(folder: Path = store.RESULTS) -> str:
    """Return the page of all results in a folder, with figures."""
    records = [record_of(path) for path in sorted(folder.glob("*.json"))]
    parts = [report.section(r, 2, ".") for r in records if r and "differs" in r]
    head = "# Results\n\nWritten by `python -m experiments readme` from the JSON files in this folder; do not edit.\n"
    return "\n".join([head, *parts])


def main(argv: list[str] | None = None) -> int:
    """Rewrite or check the pages; return 1 if a check found differences or a file cannot be read, else 0."""
    parser = argparse.ArgumentParser("python -m experiments readme", description="tables of Markdown pages")
    parser.add_argument("files", nargs="*", type=Path, default=[store.ROOT / "README.md"])
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if a page is out of date")
    options = parser.parse_args(argv)
    try:
        wanted = {path: rewrite(path.read_text()) for path in options.files}
        wanted[store.RESULTS / "README.md"] = page()
        stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
        for path in stale:
            print(f"{'out of date' if options.check else 'written'}: {path}")
            if not options.check:
                write_text(path, wanted[path])
    except (OSError, ValueError, RunError) as error:
        print(f"experiments readme: {error}", file=sys.stderr)
        return 1
    return int(options.check and bool(stale))
