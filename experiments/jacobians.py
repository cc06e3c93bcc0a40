"""Compare the ways to a Jacobian: every method on every network, the figures asked, or a function of your
own.

    python -m experiments.jacobians                      the comparison (tables, JSON, pictures); about an
                                                         hour
    python -m experiments.jacobians --quick              a small part of it, under a minute
    python -m experiments.jacobians --figures            every figure asked beside the measured one
    python -m experiments.jacobians --grid               how close `auto` comes to the best method
    python -m experiments.jacobians --function package.module:f --shape 64
"""

import argparse
import importlib
import json
from pathlib import Path

import jax

RESULTS = Path(__file__).parent / "results"


def own_function(path: str, shape: str) -> None:
    """Explain and compare all methods on `package.module:name` at a random input of this shape ("64" or
    "8,3").
    """
    import grads

    module, _, name = path.partition(":")
    if not name:
        raise SystemExit(f"--function wants package.module:name, got {path!r}")
    fun = getattr(importlib.import_module(module), name)
    x = jax.random.normal(jax.random.key(0), tuple(int(d) for d in shape.split(",") if d))
    print(grads.explain(fun, x), "\n")
    print(grads.compare(fun, x))


def _figures(groups: str) -> None:
    from experiments.jacobian_figures import GROUPS, figures, record

    chosen = tuple(g for g in groups.split(",") if g)
    unknown = set(chosen) - set(GROUPS)
    if unknown:
        raise SystemExit(f"unknown group {sorted(unknown)}; there are: {', '.join(GROUPS)}")
    done = figures(chosen)
    if not chosen:
        (RESULTS / "jacobian_figures.json").write_text(json.dumps(record(done), indent=1) + "\n")
    print(f"{sum(f.reached for f in done)} of {len(done)} figures reached")


def save(name: str, rows: list[dict]) -> Path:
    """Write rows and the machine they were measured on to experiments/results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    device = jax.devices()[0]
    record = {"jax": jax.__version__, "device": f"{device.platform} {device.device_kind}", "rows": rows}
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small part of the comparison, under a minute")
    parser.add_argument(
        "--figures", nargs="?", const="", metavar="GROUPS", help="measure the figures (all, or a,b,c)"
    )
    parser.add_argument("--grid", action="store_true", help="auto against every method on the grid")
    parser.add_argument("--function", metavar="MODULE:NAME", help="compare on a function of your own")
    parser.add_argument("--shape", default="64", help="its input shape, such as 64 or 8,3")
    parser.add_argument("--out", type=Path, default=None, help="folder of the pictures (default: results)")
    args = parser.parse_args()
    if args.function:
        own_function(args.function, args.shape)
    elif args.figures is not None:
        _figures(args.figures)
    else:
        from experiments import jacobian_grid, jacobians_report

        rows = jacobian_grid.run("quick" if args.quick else "auto" if args.grid else "full")
        name = "jacobians_quick" if args.quick else "jacobians_auto" if args.grid else "jacobians"
        print(save(name, rows))
        jacobians_report.report(rows, args.out or RESULTS, name)


if __name__ == "__main__":
    main()
