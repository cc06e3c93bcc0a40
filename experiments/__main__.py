"""`python -m experiments`: all experiments, one line each, with cost and status; `python -m experiments NAME` runs one.

The list loads no JAX.
"""

import importlib
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

from experiments.reporting.words import Words, describe, shelf
from experiments.running import store

FOLDER = Path(__file__).resolve().parent
OTHERS = {"jacobians": "jacobians.command", "readme": "reporting.pages"}

USAGE = """usage: python -m experiments [NAME [OPTIONS]]

Without a NAME: all experiments, with what each costs and whether it was run. NAME --help: the options of one.
Runs of one's own: train.py; many at once: python -m experiments.search; a trained one is used by
python -m experiments.apply and judged by python -m experiments.evaluate; each has --help."""


def experiments() -> dict[str, str]:
    """Return the module of every experiment by name, tables first; `readme`, which writes pages, is not one."""
    paths = [*shelf().values(), *sorted((FOLDER / "benchmarks").glob("*.py"))]
    module = lambda path: ".".join(path.relative_to(FOLDER).with_suffix("").parts)
    found = {path.stem: module(path) for path in paths if describe(path).command}
    return found | {"jacobians": OTHERS["jacobians"]}


def status(name: str, record: dict[str, Any] | None) -> str:
    """Return "not run", or when an experiment was run, by what profile, and whether the code has changed since."""
    if record is None:
        left = list(store.RESULTS.glob(f".partial/{name}-*/*.json"))
        return f"begun: {len(left)} parts done, the same command continues" if left else "not run"
    code = record.get("code_sha256")
    changed = code is not None and code != store.code_sha256(tuple(record.get("code", store.TABLES)))
    return f"done ({record.get('profile', 'full')}, {record['date']}){'; code has changed since' if changed else ''}"


WIDTH = 24
"""of a name in the list"""


def line(name: str, words: Words, folder: Path = store.RESULTS) -> str:
    """Return an experiment's lines in the list: title, cost, status; date and minutes are those of its record."""
    try:
        record = store.read_result(folder / f"{name}.json")
    except ValueError:
        return f"{name:<{WIDTH}} {words.title}\n{'':{WIDTH}} damaged JSON: run it again"
    took = f"{record['minutes']:.0f} minutes on {record['cores']} cores: " if record and "minutes" in record else ""
    return f"{name:<{WIDTH}} {words.title}\n{'':{WIDTH}} cost: {took}{words.cost}\n{'':{WIDTH}} {status(name, record)}"


def run(name: str, module: str, argv: list[str]) -> int:
    """Run an experiment with its own options; return the exit code."""
    loaded = importlib.import_module(f"experiments.{module}")
    table = getattr(loaded, "TABLE", None) or getattr(loaded, "STUDY", None)
    if table is not None:
        from experiments.command import main

        return main(table, name, argv)
    return loaded.main(argv) or 0


def main(argv: list[str]) -> int:
    """Print the list, or run the experiment that is named first."""
    known = experiments()
    if not argv:
        for name, module in known.items():
            print(line(name, describe(FOLDER / f"{module.replace('.', '/')}.py")))
        return 0
    name, *rest = argv
    if name in known | OTHERS:
        return run(name, (known | OTHERS)[name], rest)
    names = ", ".join(known | OTHERS)
    if name in ("-h", "--help"):
        print(f"{USAGE}\n\nNAME:", textwrap.fill(names, 120, initial_indent="  ", subsequent_indent="  "), sep="\n")
        return 0
    print(f"experiments: run one as `python -m experiments NAME`; NAME is one of {names}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in experiments():  # which loads jax anyway
        from training.cli.progress import keep_going_without_output

        keep_going_without_output()
    elif hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the list is worth no traceback when its reader has left
    sys.exit(main(sys.argv[1:]))
