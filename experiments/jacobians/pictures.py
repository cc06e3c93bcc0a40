"""Pictures of the Jacobian comparison, from its rows: who is fastest where, by how much, at what price."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import grads
from experiments.jacobians.networks import inputs, layers, mapped, mlp
from experiments.jacobians.race import race
from experiments.jacobians.report import FORMS, best, by_cell, ratios, summary

COLOURS = {
    "chain": "#1f77b4", "structured": "#74c0e8", "batched": "#2ca02c", "rev": "#d62728", "rev_chunked": "#ff9d9a",
    "fwd": "#9467bd", "fwd_chunked": "#c5b0d5", "sparse": "#8c564b", "naive_loop": "#7f7f7f", "complex_step": "#bcbd22",
    "finite_difference": "#c7c7c7", "randomized_svd": "#e377c2", "auto": "#000000", "auto_batch": "#555555",
}  # fmt: skip


SIZES = {"tiny": (8, 512), "quick": (8, 64, 512)}


def draw(rows: list[dict], folder: Path, name: str, mode: str) -> list[Path]:
    """Draw all pictures into a folder; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [fastest, slowdown, memory, accuracy, compilation, auto_picture]
    paths = [_save(picture(rows), folder / f"{name}_{_title(picture)}.png") for picture in made]
    return [*paths, _save(dimensions(SIZES.get(mode, (4, 16, 64, 256, 784, 2048))), folder / f"{name}_dimensions.png")]


def _title(picture: Callable) -> str:
    return picture.__name__.removesuffix("_picture")


def _plot() -> Any:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=110, bbox_inches="tight")
    _plot().close(figure)
    return path


def _methods(rows: list[dict]) -> list[str]:
    return list(dict.fromkeys(r["method"] for r in rows if "ms" in r))


def _colour(method: str) -> str:
    return COLOURS.get(method, "#17becf")


def fastest(rows: list[dict]) -> Any:
    """Heat map of the fastest method: a row per network and part, a column per batch and dtype; gain written in."""
    cells = by_cell(rows)
    parts = list(dict.fromkeys((k, p) for k, p, _, _ in cells))
    columns = sorted({(d, b) for _, _, b, d in cells})
    plt = _plot()
    figure, axes = plt.subplots(figsize=(1.25 * len(columns) + 3.2, 0.42 * len(parts) + 1.8))
    winners: set[str] = set()
    for i, (kind, part) in enumerate(parts):
        for j, (dtype, batch) in enumerate(columns):
            found = cells.get((kind, part, batch, dtype))
            if not found:
                axes.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor="white", hatch="//", edgecolor="#ddd"))
                continue
            winner = best(found)
            winners.add(winner)
            axes.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=_colour(winner), edgecolor="white"))
            usual = [found[m]["ms"] for m in ("fwd", "rev") if m in found]
            gain = f" ({min(usual) / found[winner]['ms']:.2g}x)" if usual else ""
            text = f"{found[winner]['ms']:.3g} ms{gain}"
            axes.text(j, i, text, ha="center", va="center", fontsize=7.5, color=_ink(winner))
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), [f"{d}\nbatch {b}" for d, b in columns], fontsize=8)
    axes.set_yticks(range(len(parts)), [f"{k} {p}" for k, p in parts], fontsize=8)
    axes.tick_params(length=0)
    handles = [plt.Rectangle((0, 0), 1, 1, facecolor=_colour(m), label=m) for m in COLOURS if m in winners]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=9, title="fastest method")
    axes.set_title("The fastest exact method, its time, and its gain over the better of fwd and rev", fontsize=10)
    return figure


def _ink(method: str) -> str:
    red, green, blue = (int(_colour(method)[k : k + 2], 16) for k in (1, 3, 5))
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 140 else "black"


def slowdown(rows: list[dict]) -> Any:
    """Heat map of time over the fastest method: geometric mean over batch and dtype, per network part and method."""
    cells, methods = by_cell(rows), _methods(rows)
    parts = list(dict.fromkeys((k, p) for k, p, _, _ in cells))
    logs: dict[tuple, list[float]] = {}
    for (kind, part, _, _), found in cells.items():
        least = found[best(found)]["ms"]
        for m, row in found.items():
            logs.setdefault((kind, part, m), []).append(np.log(max(1, row["ms"] / least)))
    mean = lambda key: float(np.exp(np.mean(logs[key]))) if key in logs else np.nan
    values = np.array([[mean((*part, m)) for m in methods] for part in parts])
    plt = _plot()
    figure, axes = plt.subplots(figsize=(0.75 * len(methods) + 3.5, 0.36 * len(parts) + 2))
    image = axes.imshow(np.clip(values, 1, 100), cmap="YlOrRd", norm="log", aspect="auto", vmin=1, vmax=100)
    for (i, j), v in np.ndenumerate(values):
        text = "–" if np.isnan(v) else f"{v:.2g}" if v < 100 else f"{v:.0f}"
        axes.text(j, i, text, ha="center", va="center", fontsize=7.5, color="white" if v > 20 else "black")
    axes.set_xticks(range(len(methods)), methods, rotation=35, ha="right", fontsize=8)
    axes.set_yticks(range(len(parts)), [f"{k} {p}" for k, p in parts], fontsize=8)
    axes.set_title("Time over the fastest exact method (1 = fastest; – = left out everywhere)", fontsize=10)
    figure.colorbar(image, label="times slower, mean over batch and dtype")
    return figure


def _strips(rows: list[dict], panels: list[tuple[Callable, str]], title: str, lines: tuple = ()) -> Any:
    """One panel per quantity, one dot per cell and method, the median as a bar; colour is the dtype."""
    plt, methods = _plot(), _methods(rows)
    figure, grid = plt.subplots(1, len(panels), figsize=(6 * len(panels) + 1, 4.4), squeeze=False)
    for axes, (value, label) in zip(grid[0], panels, strict=True):
        for k, (dtype, colour) in enumerate((("float32", "tab:blue"), ("float64", "tab:orange"))):
            for j, method in enumerate(methods):
                ys = [value(r) for r in rows if "ms" in r and r["method"] == method and r["dtype"] == dtype]
                ys = [y for y in ys if y is not None and y > 0]
                if not ys:
                    continue
                at = j + 0.36 * (k - 0.5)
                spread = np.linspace(-0.1, 0.1, len(ys)) if len(ys) > 1 else np.zeros(1)
                label_once = dtype if method == methods[0] else None
                axes.scatter(at + spread, ys, s=9, alpha=0.55, color=colour, linewidths=0, label=label_once)
                axes.hlines(np.median(ys), at - 0.17, at + 0.17, color=colour, lw=2)
        if label.startswith("trace"):  # of one order of magnitude
            axes.set_ylim(bottom=0)
        else:
            axes.set_yscale("log")
        axes.set_xticks(range(len(methods)), methods, rotation=40, ha="right", fontsize=8)
        axes.set_ylabel(label)
        axes.grid(axis="y", alpha=0.3)
        for level, text in lines:
            axes.axhline(level, color="grey", ls=":", lw=1)
            axes.annotate(
                text, (1.01, level), xycoords=("axes fraction", "data"), fontsize=7, va="center", color="grey"
            )
    grid[0][0].legend(fontsize=8)
    figure.suptitle(f"{title}: a dot per network, part and batch; bars are medians", fontsize=11)
    figure.tight_layout()
    return figure


def memory(rows: list[dict]) -> Any:
    """Temporary memory over the size of the result, and peak bytes."""
    over = lambda r: max(r["temporary_bytes"], 1) / r["output_bytes"]
    one = lambda r: (r["temporary_bytes"] + r["output_bytes"]) / 1e6 if r["batch"] == 1 else None
    panels = [(over, "temporary memory / result"), (one, "temporary + result of one example, MB")]
    return _strips(rows, panels, "Memory")


def accuracy(rows: list[dict]) -> Any:
    """Largest error over largest entry, against float64."""
    floor = lambda r: max(r["error"], 1e-17)
    lines = ((1e-6, "asked, float32"), (1e-13, "asked, float64"))
    return _strips(rows, [(floor, "error / largest entry")], "Error against float64", lines)


def compilation(rows: list[dict]) -> Any:
    """Seconds of trace and compile, and milliseconds of the first run after it over the later ones."""
    cold = lambda r: 1e3 * (r["first_call_s"] - r["compile_s"]) / r["ms"]
    panels = [(lambda r: r["compile_s"], "trace + compile, s"), (cold, "first run / fastest run")]
    return _strips(rows, panels, "The first call")


def auto_picture(rows: list[dict]) -> Any:
    """Time of auto against the best method, cell by cell, and the distribution of the ratio."""
    plt, cells = _plot(), by_cell(rows)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    ends = []
    for form, marker, colour in (("auto", "o", "tab:blue"), ("auto_batch", "^", "tab:green")):
        found = [m for m in cells.values() if form in m]
        values = sorted(ratios(rows, form).values())
        if not values:
            continue
        ys = [m[form]["ms"] for m in found]
        xs = [min(y, m[best(m)]["ms"]) for m, y in zip(found, ys, strict=True)]
        ends += xs
        left.loglog(xs, ys, marker, ms=5, color=colour, alpha=0.7, label=FORMS[form])
        share = np.arange(1, len(values) + 1) / len(values)
        s = summary(rows, form)
        text = f"{FORMS[form]}: {s['within_1.25']:.0%} within 1.25x, worst {s['worst']:.2f}x"
        right.step([*values], share, where="post", color=colour, label=text)
        right.plot(values, share, marker, ms=3, color=colour)
    low, high = min(ends, default=1), max(ends, default=1)
    left.plot([low, high], [low, high], "k-", lw=1, label="the best method")
    left.plot([low, high], [1.25 * low, 1.25 * high], "k:", lw=1, label="1.25 times the best")
    left.set(xlabel="best method, ms", ylabel="auto, ms")
    right.axvline(1.25, color="k", ls=":", lw=1)
    right.axvline(2, color="tab:red", ls=":", lw=1)
    right.set(
        xlabel="time of auto / time of the best method", ylabel="share of cells", ylim=(0, 1.02), xlim=(0.97, None)
    )
    for axes in (left, right):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.suptitle(f"auto picked the winner in {summary(rows).get('winner', 0):.0%} of {summary(rows)['cells']} cells")
    figure.tight_layout()
    return figure


def dimensions(sizes: tuple[int, ...]) -> Any:
    """Time against input and output dimension of a dense network of one hidden layer, with the crossover."""
    plt = _plot()
    names = ("fwd", "rev", "chain", "auto")
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for axes, varied in zip(panels, ("input", "output"), strict=True):
        times: dict[str, list[float]] = {m: [] for m in names}
        for size in sizes:
            shape = (size, 128, 64) if varied == "input" else (64, 128, size)
            args = (layers(shape), inputs(shape[0], 1, jnp.float32))
            found = race(
                {m: mapped(lambda f, m=m: grads.jacobian(f, method=m), mlp, False) for m in names}, args,
                seconds=0.2 if len(sizes) < 4 else 2.0,
            )  # fmt: skip
            for m, t in found.items():
                times[m].append(t.run * 1e3)
        for m, values in times.items():
            style = {"auto": "--", "chain": "s-"}.get(m, "o-")
            axes.loglog(sizes, values, style, ms=4, label=m, color=_colour(m))
        if cross := crossing(sizes, times["fwd"], times["rev"]):
            axes.axvline(cross, color="grey", ls=":", label=f"fwd = rev at {cross:.0f}")
        axes.set_xlabel(f"{varied} dimension (the other: 64)")
        axes.set_xticks(sizes, [str(s) for s in sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    panels[0].set_ylabel("time of the Jacobian, ms")
    figure.suptitle(f"When forward, when reverse: dense network, hidden 128, float32, {jax.devices()[0].platform}")
    figure.tight_layout()
    return figure


def crossing(x: tuple, a: list[float], b: list[float]) -> float | None:
    """Where two curves cross, interpolated in the logarithm (None: they do not, or already before the first x)."""
    for i in range(len(x) - 1):
        before, after = np.log(a[i] / b[i]), np.log(a[i + 1] / b[i + 1])
        if before * after < 0:
            return float(x[i] * (x[i + 1] / x[i]) ** (before / (before - after)))
    return None
