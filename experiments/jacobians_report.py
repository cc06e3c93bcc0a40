"""Tables and pictures of the Jacobian comparison, from its rows."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import grads
from experiments.jacobian_networks import layers, mlp
from experiments.jacobian_timing import inputs, mapped, measure

CHOICES = ("auto",)


def by_cell(rows: list[dict]) -> dict[tuple, dict[str, dict]]:
    """{(kind, part, batch, dtype): {method: row}} of the measured rows."""
    out: dict[tuple, dict[str, dict]] = defaultdict(dict)
    for r in rows:
        if "ms" in r:
            out[r["kind"], r["part"], r["batch"], r["dtype"]][r["method"]] = r
    return out


def auto_summary(rows: list[dict]) -> dict[str, float]:
    """How close auto came to the best method: shares within 1.25x, the worst ratio, how often it named the
    winner.
    """
    ratios, won = [], 0
    for methods in by_cell(rows).values():
        fixed = {k: r["ms"] for k, r in methods.items() if k not in CHOICES}
        if "auto" not in methods or not fixed:
            continue
        best = min(fixed, key=fixed.__getitem__)
        # the chosen method's own time counts too: it is the same program as auto
        ratios.append(min(methods["auto"]["ms"], fixed.get(methods["auto"]["chosen"], 1e30)) / fixed[best])
        won += methods["auto"]["chosen"] == best
    count = max(len(ratios), 1)
    within = sum(r <= 1.25 for r in ratios) / count
    return {
        "cells": len(ratios),
        "within_1.25": within,
        "worst": max(ratios, default=0.0),
        "winner": won / count,
    }


def table(rows: list[dict]) -> str:
    """One line per cell and method."""
    lines = [
        f"{'network':<22}{'batch':>6} {'dtype':<8} {'method':<12}{'ms':>9}{'x primal':>9}{'compile s':>10}"
        f"{'temp MB':>9}{'out MB':>8}{'Mops':>9}{'error':>9}"
    ]
    for r in rows:
        head = f"{r['kind'] + ' ' + r['part']:<22}{r['batch']:>6} {r['dtype']:<8} {r['method']:<12}"
        if "ms" not in r:
            lines.append(f"{head}  left out: {r['left_out'][:70]}")
            continue
        lines.append(
            f"{head}{r['ms']:>9.3g}{r['over_primal']:>9.3g}{r['compile_s']:>10.2f}{r['temporary_bytes'] / 1e6:>9.3g}"
            f"{r['output_bytes'] / 1e6:>8.3g}{r['operations'] / 1e6:>9.3g}{r['error']:>9.1e}"
        )
    return "\n".join(lines)


def report(rows: list[dict], folder: Path, name: str) -> None:
    """Print the table and the summary of auto, and draw the pictures."""
    print(table(rows))
    s = auto_summary(rows)
    print(
        f"auto: {s['cells']} cells, within 1.25x of the best in {s['within_1.25']:.0%}, never above {s['worst']:.2f}x, "
        f"named the winner in {s['winner']:.0%}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    for picture in (heat_map, bars, auto_picture):
        print(picture(rows, folder, name))
    print(crossover(folder, name, quick=name.endswith("quick")))


def _plot() -> Any:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt


def _save(plt: Any, figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
    return path


def heat_map(rows: list[dict], folder: Path, name: str) -> Path:
    """The fastest method of every cell, and the slowdown of the others."""
    plt, cells = _plot(), by_cell(rows)
    methods = list(dict.fromkeys(r["method"] for r in rows))
    figure, axes = plt.subplots(figsize=(1.2 * len(methods) + 3, 0.32 * len(cells) + 1.5))
    values = []
    for found in cells.values():
        best = min(r["ms"] for r in found.values())
        values.append([found[m]["ms"] / best if m in found else float("nan") for m in methods])
    image = axes.imshow(
        [[min(v, 32) if v == v else v for v in row] for row in values],
        cmap="viridis_r",
        norm="log",
        aspect="auto",
    )
    for i, row in enumerate(values):
        for j, v in enumerate(row):
            axes.text(j, i, "-" if v != v else f"{v:.2g}", ha="center", va="center", fontsize=7,
                      color="white" if v == v and v > 5 else "black", weight="bold" if v == 1 else None)  # fmt: skip
    axes.set_xticks(range(len(methods)), methods, rotation=30, ha="right")
    axes.set_yticks(
        range(len(cells)), [f"{k} {p}, batch {b}, {d[5:]} bit" for k, p, b, d in cells], fontsize=7
    )
    axes.set_title("time over the fastest method (1 = fastest; - = left out)")
    figure.colorbar(image, label="slowdown")
    return _save(plt, figure, folder / f"{name}_fastest.png")


def bars(rows: list[dict], folder: Path, name: str) -> Path:
    """Temporary memory, accuracy and compile time by method: one dot per cell."""
    plt = _plot()
    figure, panels = plt.subplots(1, 3, figsize=(13, 4))
    keys = (
        ("temporary_bytes", "temporary bytes"),
        ("error", "relative error against float64"),
        ("compile_s", "compile s"),
    )
    methods = list(dict.fromkeys(r["method"] for r in rows if "ms" in r))
    for axes, (key, label) in zip(panels, keys, strict=True):
        for dtype, colour in (("float32", "tab:blue"), ("float64", "tab:orange")):
            points = [
                (methods.index(r["method"]), max(r[key], 1e-18))
                for r in rows
                if "ms" in r and r["dtype"] == dtype
            ]
            if points:
                axes.scatter(*zip(*points, strict=True), s=12, alpha=0.6, color=colour, label=dtype)
        axes.set_yscale("log")
        axes.set_xticks(range(len(methods)), methods, rotation=40, ha="right")
        axes.set_ylabel(label)
    panels[0].legend()
    figure.suptitle("memory, accuracy and compile time, one dot per network, batch and dtype")
    return _save(plt, figure, folder / f"{name}_memory_accuracy_compile.png")


def auto_picture(rows: list[dict], folder: Path, name: str) -> Path:
    """Time of auto against the best method, cell by cell."""
    plt = _plot()
    figure, axes = plt.subplots(figsize=(5, 5))
    best, auto = [], []
    for found in by_cell(rows).values():
        if "auto" in found and len(found) > 1:
            best.append(min(r["ms"] for k, r in found.items() if k != "auto"))
            auto.append(found["auto"]["ms"])
    if best:
        ends = [min(best), max(best)]
        axes.plot(ends, ends, "k-", lw=1, label="the best method")
        axes.plot(ends, [1.25 * v for v in ends], "k:", lw=1, label="1.25 times the best")
    axes.loglog(best, auto, "o", ms=5)
    axes.set_xlabel("best method, ms")
    axes.set_ylabel("auto, ms")
    axes.legend()
    summary = auto_summary(rows)
    axes.set_title(f"auto named the winner in {summary['winner']:.0%} of {summary['cells']} cells")
    return _save(plt, figure, folder / f"{name}_auto.png")


def crossover(folder: Path, name: str, quick: bool) -> Path:
    """Time against input and output dimension for a dense network of one hidden layer, with the crossover."""
    plt = _plot()
    sizes = (8, 64, 512) if quick else (4, 16, 64, 256, 784)
    figure, panels = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for axes, varied in zip(panels, ("input", "output"), strict=True):
        times: dict[str, list[float]] = {"fwd": [], "rev": [], "auto": []}
        for size in sizes:
            shape = (size, 128, 64) if varied == "input" else (64, 128, size)
            args = (layers(shape), inputs(shape[0], 1, jnp.float32))
            functions = {m: mapped(lambda f, m=m: grads.jacobian(f, method=m), mlp, False) for m in times}
            for m, t in measure(functions, args, rounds=20).items():
                times[m].append(t.run * 1e3)
        for m, values in times.items():
            axes.loglog(sizes, values, "o-" if m != "auto" else "k--", label=m)
        cross = _crossing(sizes, times["fwd"], times["rev"])
        if cross:
            axes.axvline(cross, color="grey", ls=":", label=f"fwd = rev at {cross:.0f}")
        axes.set_xlabel(f"{varied} dimension (the other: 64)")
        axes.legend()
    panels[0].set_ylabel("ms")
    figure.suptitle(f"dense network, hidden 128, float32, {jax.devices()[0].platform}")
    return _save(plt, figure, folder / f"{name}_dimensions.png")


def _crossing(x: tuple, a: list[float], b: list[float]) -> float | None:
    """Where two curves cross, interpolated in the logarithm."""
    for i in range(len(x) - 1):
        before, after = a[i] / b[i] - 1, a[i + 1] / b[i + 1] - 1
        if before * after < 0:
            return float(x[i] * (x[i + 1] / x[i]) ** (before / (before - after)))
    return None
