"""Compare the ways to a Jacobian: every method on every network, the figures asked, or a function of your own.

    python -m experiments jacobians                      the whole comparison (about 25 minutes on two cores)
    python -m experiments jacobians --only dense,conv    a part of it: kinds, parts, batches, dtypes
    python -m experiments jacobians --budget 20          what is not done yet, for 20 minutes
    python -m experiments jacobians --quick              a small part of it, under a minute
    python -m experiments jacobians --grid               how close `auto` comes to the best method
    python -m experiments jacobians --figures            every figure asked beside the measured one
    python -m experiments jacobians --function package.module:f --shape 64

Tables are printed; JSON and pictures are written to experiments/results (or --out). A killed run goes on where it
stopped: finished cells are kept until the code or JAX changes.

Command: python -m experiments jacobians
Cost: 25 minutes on 2 quiet cores; --quick: under a minute.
"""

import argparse
import sys
import time
from pathlib import Path

from experiments.jacobians.own_function import UsageError, UserFunctionError, own_function
from experiments.running import store
from models.config import nearest


def measure_figures(groups: str, out: Path) -> None:
    """Measure the figures of these groups ("a,b"; all for ""), write and print them. Raises UsageError."""
    from experiments.jacobians.figures import GROUPS, figures, record

    chosen = tuple(g for g in groups.split(",") if g)
    unknown = set(chosen) - set(GROUPS)
    if unknown:
        raise UsageError(f"unknown group {sorted(unknown)}; there are: {', '.join(GROUPS)}")
    path, begin = out / "jacobian_figures.json", time.monotonic()
    done = figures(chosen)
    found = record(done, store.read_result(path) if chosen else None)
    store.write_result(path, found | store.provenance(time.monotonic() - begin, ("grads", "experiments/jacobians")))
    print(found["lines"][0])


def selected(cells: list, only: str) -> list:
    """Return the cells that `only` names ("dense,conv,encoder,16,float32"): any of the values given, on each axis.

    Raises UsageError for a word that no cell has.
    """
    words = [w for w in only.split(",") if w]
    axes = [{str(cell[k]) for cell in cells} for k in range(4)]
    known = set().union(*axes)
    if unknown := [w for w in words if w not in known]:
        near = nearest(unknown[0], known)[0]
        raise UsageError(
            f"--only: no cell has {unknown[0]!r}; did you mean {near}? There are: {', '.join(sorted(known))}"
        )
    wanted = [axis & set(words) or axis for axis in axes]
    return [cell for cell in cells if all(str(v) in w for v, w in zip(cell, wanted, strict=True))]


def compare(mode: str, only: str = "", minutes: float | None = None, out: Path | None = None) -> Path:
    """Measure what is not done of a mode, write its JSON and pictures, print its tables; return the JSON's path.

    Only a whole comparison is a result: of a small mode, or with cells missing, the files go to results/smoke.
    """
    from experiments.jacobians import grid, pictures, report

    name = {"full": "jacobians", "auto": "jacobians_auto"}.get(mode, f"jacobians_{mode}")
    everything = list(grid.cells(mode))
    finished = store.Finished((out or store.RESULTS) / ".partial" / f"{name}-cells", grid.MEASURED)
    grid.run(selected(everything, only), finished, grid.BUDGETS[mode], minutes)
    done = [found for cell in everything if (found := finished.get(cell)) is not None]
    rows = [row for found in done for row in found["rows"]]
    if not rows:
        raise UsageError("no cell was finished within the budget")
    whole = mode in ("full", "auto") and len(done) == len(everything)
    path = (out or (store.RESULTS if whole else store.SCRATCH)) / f"{name}.json"
    found = report.record(mode, rows, len(everything))
    seconds = sum(cell["seconds"] for cell in done)
    store.write_result(path, found | store.provenance(seconds, grid.MEASURED), digits=4)
    print(f"{path}\n{report.table(rows)}\n")
    print("\n".join(found["lines"]))
    for picture in pictures.draw(rows, path.parent, name, mode):
        print(picture)
    return path


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        "python -m experiments jacobians", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = made.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="a small part of the comparison, under a minute")
    what.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # the smallest, for the tests
    what.add_argument("--grid", action="store_true", help="auto against every method on the grid")
    what.add_argument("--figures", nargs="?", const="", metavar="GROUPS", help="measure the figures (all, or a,b,c)")
    what.add_argument("--function", metavar="MODULE:NAME", help="compare on a function of your own")
    made.add_argument("--shape", default="64", help="the function's input shape, such as 64 or 8,3 (default: 64)")
    made.add_argument("--only", default="", metavar="A,B", help="kinds, parts, batches, dtypes: dense,encoder,float32")
    made.add_argument("--budget", type=float, metavar="MINUTES", help="begin no cell after so many minutes")
    made.add_argument("--out", type=Path, help="folder of JSON and pictures (default: experiments/results)")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run what the command line asks; return the exit code (1: a user's function raised; 2: a wrong argument)."""
    options = parser().parse_args(argv)
    try:
        if options.function:
            own_function(options.function, options.shape)
        elif options.figures is not None:
            measure_figures(options.figures, options.out or store.RESULTS)
        else:
            modes = {"tiny": options.tiny, "quick": options.quick, "auto": options.grid}
            mode = next((m for m, asked in modes.items() if asked), "full")
            compare(mode, options.only, options.budget, options.out)
    except UsageError as error:
        print(f"experiments.jacobians: {error}", file=sys.stderr)
        return 2
    except UserFunctionError as error:
        print(f"experiments.jacobians: {error}", file=sys.stderr)
        return 1
    return 0
