"""`python -m experiments`: all experiments, one line each, with cost and status; loads no JAX."""

import datetime
import sys
from pathlib import Path
from typing import Any

from experiments.describe import Words, describe, experiments

FOLDER = Path(__file__).resolve().parent


def status(name: str) -> str:
    """Return "not run", or when an experiment was run, by what profile, and whether the code has changed since."""
    from experiments import store

    path = store.RESULTS / f"{name}.json"
    try:
        record: dict[str, Any] | None = store.read_result(path)
    except ValueError:
        return "damaged JSON: run it again"
    if record is None:
        left = list(store.RESULTS.glob(f".partial/{name}-*/*.json"))
        return f"begun: {len(left)} runs done, the same command continues" if left else "not run"
    day = datetime.date.fromtimestamp(path.stat().st_mtime).isoformat()
    code = record.get("code_sha256")
    changed = code is not None and code != store.code_sha256()
    return f"done ({record.get('profile', 'full')}, {day}){'; code has changed since' if changed else ''}"


def line(name: str, words: Words) -> str:
    """Return an experiment's lines in the list."""
    cost = f"\n{'':22}cost: {words.cost}" if words.cost else ""
    return f"{name:<22}{words.title}{cost}\n{'':22}{status(name)}"


def main() -> int:
    """Print the list."""
    if len(sys.argv) > 1:
        known = ", ".join(experiments(FOLDER))
        print(f"experiments: run one as `python -m experiments.NAME`; NAME is one of {known}", file=sys.stderr)
        return 0 if sys.argv[1] in ("-h", "--help") else 2
    for name, path in experiments(FOLDER).items():
        print(line(name, describe(path)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
