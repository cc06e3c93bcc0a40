"""Tables, summary and JSON of the Jacobian comparison, from its rows."""

from collections import defaultdict
from typing import Any

import numpy as np

import grads

FORMS = {"auto": "auto", "auto_batch": "auto with batch_axis=0"}
TITLES = {"auto": "How near auto comes to the best Jacobian method", "full": "Jacobian methods compared"}
COMMANDS = {"auto": " --grid", "quick": " --quick", "tiny": " --tiny", "full": ""}
Cells = dict[tuple, dict[str, dict]]


def by_cell(rows: list[dict]) -> Cells:
    """{(kind, part, batch, dtype): {method: row}} of the measured rows, where an exact method is among them."""
    out: Cells = defaultdict(dict)
    for r in rows:
        if "ms" in r:
            out[r["kind"], r["part"], r["batch"], r["dtype"]][r["method"]] = r
    return {cell: methods for cell, methods in out.items() if exact(methods)}


def exact(methods: dict[str, dict]) -> list[str]:
    """Return the exact methods by name: auto does not count, nor do approximations."""
    return [m for m in methods if m not in FORMS and grads.get_method(m).exact]


def best(methods: dict[str, dict]) -> str:
    """Return the fastest exact method by name."""
    return min(exact(methods), key=lambda m: methods[m]["ms"])


def ratios(rows: list[dict], form: str = "auto") -> dict[tuple, float]:
    """{cell: time of auto over the best method's}, 1 where auto's is the shortest measured."""
    found = {c: m for c, m in by_cell(rows).items() if form in m}
    return {c: max(1.0, m[form]["ms"] / m[best(m)]["ms"]) for c, m in found.items()}


def summary(rows: list[dict], form: str = "auto") -> dict[str, float]:
    """How close auto came: share of cells within 1.25 times the best, quantiles, how often it named the winner."""
    values = np.array(list(ratios(rows, form).values()))
    cells = [m for m in by_cell(rows).values() if form in m]
    if not len(values):
        return {"cells": 0}
    return {
        "cells": len(values),
        "within_1.25": float(np.mean(values <= 1.25)),
        "median": float(np.median(values)),
        "quantile_90": float(np.quantile(values, 0.9)),
        "worst": float(values.max()),
        "winner": float(np.mean([m.get(m[form]["chosen"], m[form])["ms"] <= m[best(m)]["ms"] for m in cells])),
        "winner_or_within_5_percent": float(np.mean(values <= 1.05)),
    }


def auto_line(rows: list[dict], form: str) -> str:
    """Return the summary of one form of auto in a sentence."""
    s = summary(rows, form)
    return (
        f"{FORMS[form]}: {s['cells']} cells, within 1.25x of the best method in {s['within_1.25']:.0%}, ratio median "
        f"{s['median']:.2f}, 90 % quantile {s['quantile_90']:.2f}, worst {s['worst']:.2f}; picked the winner in "
        f"{s['winner']:.0%}, it or one within 5 % of it in {s['winner_or_within_5_percent']:.0%}"
    )


def limit_line(rows: list[dict]) -> str:
    """Return how often auto kept a memory limit of 1.5 times the output and 1 MiB."""
    limited = [r for r in rows if "limit_bytes" in r]
    kept = sum(r["within_limit_bytes"] <= r["limit_bytes"] for r in limited)
    refused = sum(not r["within_limit_bytes"] for r in limited)
    return f"memory limit of 1.5 times the output and 1 MiB: kept in {kept} of {len(limited)} cells ({refused} refused)"


def missing_line(rows: list[dict]) -> str:
    """Return how many entries were left out, and why."""
    reasons = [r["left_out"] for r in rows if "left_out" in r]
    slow = sum("over the limit of" in r and " s" in r.rsplit("limit of", 1)[1] for r in reasons)
    large = sum("over the limit of" in r and "GB" in r.rsplit("limit of", 1)[1] for r in reasons)
    rest = len(reasons) - slow - large
    return (
        f"{len(rows)} entries; left out: {rest} do not apply, {slow} too slow, {large} too large (reasons in the rows)"
    )


def overview(rows: list[dict], dtype: str = "float32") -> list[str]:
    """One line per network and part: per batch the fastest method, its ms, and its gain over jacfwd and jacrev."""
    found = by_cell(rows)
    batches = sorted({c[2] for c in found if c[3] == dtype})
    parts = list(dict.fromkeys(c[:2] for c in found if c[3] == dtype))
    head = f"{'fastest in ' + dtype:<22}" + "".join(f"{f'batch {b}: ms, gain':<30}" for b in batches)
    lines = [head.rstrip()]
    for kind, part in parts:
        cells = [found.get((kind, part, b, dtype)) for b in batches]
        lines.append((f"{kind + ' ' + part:<22}" + "".join(f"{_fastest(c):<30}" for c in cells)).rstrip())
    return [*lines, "gain: against the faster of fwd and rev (as jacfwd and jacrev), where one of them was measured"]


def _fastest(methods: dict[str, dict] | None) -> str:
    if not methods:
        return "-"
    name = best(methods)
    plain = [methods[m]["ms"] for m in ("fwd", "rev") if m in methods]
    gain = f" {min(plain) / methods[name]['ms']:.3g}x" if plain else ""
    return f"{name} {methods[name]['ms']:.3g}{gain}"


def covered(rows: list[dict], total: int) -> str:
    """Return which part of the comparison the rows are."""
    cells = dict.fromkeys((r["kind"], r["part"], r["batch"], r["dtype"]) for r in rows)
    axes = [", ".join(str(v) for v in dict.fromkeys(c[k] for c in cells)) for k in range(4)]
    return f"{len(cells)} of {total} cells: {axes[0]}; {axes[1]}; batch {axes[2]}; {axes[3]}"


def lines(rows: list[dict], total: int) -> list[str]:
    """Return what a reader should see of these rows."""
    forms = [auto_line(rows, form) for form in FORMS if summary(rows, form)["cells"]]
    return [covered(rows, total), *forms, limit_line(rows), missing_line(rows), "", *overview(rows)]


def record(mode: str, rows: list[dict], total: int) -> dict[str, Any]:
    """Return the record of a comparison: title, command, lines, summary, rows."""
    return {
        "title": TITLES.get(mode, "Jacobian methods compared, a small part"),
        "command": f"python -m experiments jacobians{COMMANDS[mode]}",
        "lines": lines(rows, total),
        "summary": {form: summary(rows, form) for form in FORMS},
        "rows": rows,
    }


def table(rows: list[dict]) -> str:
    """One line per cell and method."""
    out = [
        f"{'network':<22}{'batch':>6} {'dtype':<8} {'method':<18}{'ms':>9}{'x primal':>9}{'compile s':>10}"
        f"{'first s':>9}{'temp MB':>9}{'out MB':>8}{'Mops':>9}{'error':>9}"
    ]
    for r in rows:
        head = f"{r['kind'] + ' ' + r['part']:<22}{r['batch']:>6} {r['dtype']:<8} {r['method']:<18}"
        if "ms" not in r:
            out.append(f"{head}  left out: {r['left_out'][:80]}")
            continue
        operations = f"{r['operations'] / 1e6:.3g}" if "operations" in r else "-"
        out.append(
            f"{head}{r['ms']:>9.3g}{r['over_primal']:>9.3g}{r['compile_s']:>10.2f}{r['first_call_s']:>9.2f}"
            f"{r['temporary_bytes'] / 1e6:>9.3g}{r['output_bytes'] / 1e6:>8.3g}{operations:>9}{r['error']:>9.1e}"
        )
    return "\n".join(out)
