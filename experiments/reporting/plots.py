"""The figures of tables, each a function of a table's record and its pictures that writes one PNG."""

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.reporting.pairs import values_of
from experiments.reporting.report import interval_of
from experiments.reporting.statistics import performance_profile, resample
from experiments.running.study import Study
from experiments.running.table import Table
from training.pictures.drawing import INK, TRAIN, VALIDATION, figure, is_image, tiles

Pictures = Mapping[str, np.ndarray]
PLANE = ("kl_nats", "nll_nats")


def write_all(table: Table | Study, folder: Path, record: Mapping[str, Any], pictures: Any) -> list[str]:
    """Draw a table's or study's figures into `folder`; return their file names. The first has the table's own name."""
    out = []
    for i, kind in enumerate(table.figures):
        draw = kind if callable(kind) else DRAW[kind]
        name = f"{record['name']}{f'-{draw.__name__}' if i else ''}.png"
        if draw(folder / name, record, pictures):
            out.append(name)
    return out


def label(metric: str) -> str:
    """Return a metric's name for an axis."""
    words = {"squared_error": "test squared error per image", "negative_elbo_nats": "test -ELBO, nats"}
    name = metric.removeprefix("gap_")
    text = words.get(name, f"test {name.removesuffix('_nats').replace('_', ' ')}")
    text += ", nats" if name.endswith("_nats") and name not in words else ""
    return text + (" minus that of training examples" if metric.startswith("gap_") else "")


def headline(fig: Any, record: Mapping[str, Any]) -> None:
    """Write the table's title above a figure, on as many lines as it takes."""
    width = int(11 * fig.get_figwidth())
    fig.suptitle("\n".join(textwrap.wrap(record["title"], width)), fontsize=11)


def intervals(path: Path, record: Mapping[str, Any], pictures: Pictures) -> bool:
    """Draw every row's mean and 95% interval, every seed, the paper's number and the bound."""
    rows = list(record["rows"])
    with figure(path, 7.6, 1.5 + 0.34 * len(rows)) as fig:
        axes = fig.subplots()
        seen: set[str] = set()

        def once(name: str) -> str | None:
            new = name not in seen
            seen.add(name)
            return name if new else None

        for y, row in enumerate(rows):
            facts, ours = record["rows"][row], interval_of(record, row)
            if math.isnan(ours.estimate):
                axes.annotate("diverged", (0.02, y), xycoords=("axes fraction", "data"), va="center", color=INK)
                continue
            values = values_of(record, row)
            exact = "PCA (exact)" if "PCA" in row else "no seed in it"
            name = once(exact if facts.get("exact") else "ours")
            colour = INK if facts.get("exact") else TRAIN
            if math.isfinite(ours.low) and ours.low < ours.high:
                axes.plot([ours.low, ours.high], [y, y], color=colour, linewidth=2, label=once("95% interval"))
                axes.plot(values, [y] * len(values), "|", color=colour, markersize=9, label=once("seeds"))
            axes.plot(ours.estimate, y, "s" if facts.get("exact") else "o", color=colour, label=name)
            if facts["paper"] is not None and not record["differs"]:
                axes.plot(facts["paper"], y, "D", color=VALIDATION, fillstyle="none", label=once("paper"))
            if isinstance(facts["bound"], (int, float)) and not record["differs"]:
                axes.plot(facts["bound"], y, "<", color="#7a3b9a", fillstyle="none", label=once("bound"))
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        values = [v for row in rows for v in values_of(record, row) if math.isfinite(v)]
        if values and min(values) > 0 and max(values) > 15 * min(values):
            axes.set_xscale("log")
        axes.set(xlabel=label(record["metric"]))
        headline(fig, record)
        if seen:
            fig.legend(loc="outside lower center", ncols=6, columnspacing=1.2)
    return True


def curves(path: Path, record: Mapping[str, Any], pictures: Pictures) -> bool:
    """Draw the validation metric of every row against the epoch: the mean over seeds, and their range."""
    from matplotlib import colormaps

    rows = {row: facts["curve"] for row, facts in record["rows"].items() if "curve" in facts}
    if not rows:
        return False
    with figure(path, 7.6, 4.4) as fig:
        axes = fig.subplots()
        most: list[float] = []
        for i, (row, curve) in enumerate(rows.items()):
            ((metric, lines),) = curve.items()
            longest = max(map(len, lines))
            if longest == 0:
                continue
            y = np.full((len(lines), longest), np.nan)
            for line, values in zip(y, lines, strict=True):
                line[: len(values)] = [float(v) for v in values]
            y = y[:, : np.isfinite(y).all(0).sum()] if np.isfinite(y[:, 0]).all() else y[:, :0]
            colour = colormaps["tab20" if len(rows) > 10 else "tab10"](i)
            x = np.arange(1, y.shape[1] + 1)
            axes.plot(x, y.mean(0), color=colour, label=row, linewidth=1.5, marker="o" if len(x) < 12 else "", ms=3)
            axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.18, linewidth=0)
            most += list(y.mean(0))
        if most and min(most) > 0 and max(most) > 8 * min(most):
            axes.set_yscale("log")
        axes.set(xlabel="epoch", ylabel=label(metric).replace("test", "validation", 1))
        headline(fig, record)
        axes.xaxis.get_major_locator().set_params(integer=True)
        fig.legend(loc="outside center right", fontsize=8)
    return True


def named_rows(axes: Any, kept: Pictures, count: int) -> None:
    """Draw `count` pictures of every row side by side, the rows below each other with their names."""
    picture = tiles(np.concatenate(list(kept.values())), len(kept), count)
    axes.imshow(picture, interpolation="nearest", aspect="equal")
    height = picture.shape[0] / len(kept)
    axes.set_yticks((np.arange(len(kept)) + 0.5) * height - 0.5, list(kept))
    axes.set_xticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def pictures(path: Path, record: Mapping[str, Any], pictures: Pictures) -> bool:
    """Draw the first test examples and, below, every row's reconstructions of them (seed 0)."""
    original = pictures["original"]
    kept = {row: image for row, image in pictures.items() if image.shape == original.shape}
    if not is_image(original.shape[1:]):
        return False
    count = len(original)
    margin = 0.4 + 0.095 * max(map(len, kept))  # inches, for the names
    with figure(path, 0.62 * count + margin, 0.62 * len(kept) + 0.6) as fig:
        named_rows(fig.subplots(), kept, count)
        fig.suptitle("First test examples and their reconstructions", fontsize=11)
    return True


def rate_distortion(path: Path, record: Mapping[str, Any], pictures: Pictures) -> bool:
    """Draw distortion against rate, with every beta, and active units against beta."""
    rows = [(row, facts["config"]["objective"]["beta"]) for row, facts in record["rows"].items()]
    with figure(path, 9.0, 4.0) as fig:
        plane, units = fig.subplots(1, 2, width_ratios=(3, 2))
        for seed in range(len(record["seeds"])):
            points = [[values_of(record, row, m)[seed] for m in PLANE] for row, _ in rows]
            plane.plot(*np.transpose(points), "o-", color=TRAIN, alpha=0.6, markersize=4, linewidth=1)
        annotate(plane, rows, {row: [interval_of(record, row, m).estimate for m in PLANE] for row, _ in rows})
        plane.set(xlabel="rate: KL, nats", ylabel="distortion: -log p(x|z), nats", title="Rate and distortion (test)")
        plane.margins(x=0.12)
        betas = [beta for _, beta in rows]
        found = [values_of(record, row, "active_units") for row, _ in rows]
        units.plot(betas, [np.mean(v) for v in found], "o-", color=VALIDATION)
        units.fill_between(betas, [min(v) for v in found], [max(v) for v in found], color=VALIDATION, alpha=0.2)
        units.set(xscale="log", xlabel="β", ylabel="active units", title="Code dimensions in use")
        units.set_ylim(0, 1.08 * max(max(v) for v in found) + 1)
        units.yaxis.get_major_locator().set_params(integer=True)
    return True


def annotate(axes: Any, rows: list[tuple[str, float]], at: Mapping[str, list[float]]) -> None:
    """Write every beta beside its point; points closer than a twentieth of the picture share one text."""
    reach = np.ptp(list(at.values()), axis=0)
    places: list[tuple[list[float], list[str]]] = []
    for row, beta in rows:
        if not np.isfinite(at[row]).all():
            continue
        if places and np.all(np.abs(np.subtract(at[row], places[-1][0])) < 0.05 * reach):
            places[-1][1].append(f"{beta:g}")
        else:
            places.append((at[row], [f"{beta:g}"]))
    for point, names in places:
        text = f"β = {', '.join(names)}"
        axes.annotate(text, point, xytext=(6, 4), textcoords="offset points", fontsize=8)


def gap(path: Path, record: Mapping[str, Any], pictures: Pictures) -> bool:
    """Draw every row's metric on training examples and on test examples: the bar between them is the gap."""
    metric = record["metric"].removeprefix("gap_")
    rows = [row for row, facts in record["rows"].items() if facts["metrics"].get(f"seen_{metric}")]
    if not rows:
        return False
    with figure(path, 7.6, 1.5 + 0.34 * len(rows)) as fig:
        axes = fig.subplots()
        for y, row in enumerate(rows):
            seen, test = (interval_of(record, row, name).estimate for name in (f"seen_{metric}", metric))
            axes.plot([seen, test], [y, y], color="#bbbbbb", linewidth=4, solid_capstyle="butt", zorder=1)
            axes.plot(seen, y, "o", color=TRAIN, label=None if y else "training examples")
            axes.plot(test, y, "o", color=VALIDATION, label=None if y else "test examples")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set(xlabel=label(metric).removeprefix("test "))
        headline(fig, record)
        fig.legend(loc="outside lower center", ncols=2)
    return True


def profile(path: Path, record: Mapping[str, Any], pictures: Pictures) -> bool:
    """Draw performance profiles: per row, the share of its runs at or below each value of the metric.

    A curve further left is better; where two cross, neither row is better throughout. The band is the pointwise 95%
    bootstrap over seeds. A run that diverged stays above every value, so its row's curve ends below 1.
    """
    from matplotlib import colormaps

    rows = {row: values_of(record, row) for row, facts in record["rows"].items() if not facts.get("exact")}
    known = [v for values in rows.values() for v in values if math.isfinite(v)]
    if len(rows) < 2 or not known:
        return False
    low, high = min(known), max(known)
    wide = low > 0 and high > 15 * low
    margin = 0.05 * (math.log(high / low) if wide else high - low) or 0.1
    ends = (low * math.exp(-margin), high * math.exp(margin)) if wide else (low - margin, high + margin)
    taus = (np.geomspace if wide else np.linspace)(*ends, 400)
    with figure(path, 7.6, 4.4) as fig:
        axes = fig.subplots()
        for i, (row, values) in enumerate(rows.items()):
            colour = colormaps["tab20" if len(rows) > 10 else "tab10"](i)
            share, below, above = profile_band(values, taus)
            axes.step(taus, share, where="post", color=colour, label=row, linewidth=1.5)
            axes.fill_between(taus, below, above, step="post", color=colour, alpha=0.12, linewidth=0)
        if wide:
            axes.set_xscale("log")
        axes.set(xlabel=label(record["metric"]), ylabel="share of runs at or below", ylim=(-0.03, 1.03))
        headline(fig, record)
        fig.legend(loc="outside center right", fontsize=8)
    return True


def profile_band(values: list[float], taus: np.ndarray, times: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the share of values at or below each tau, and the ends of its 95% bootstrap interval over values."""
    x = np.asarray([[v if math.isfinite(v) else math.inf] for v in values])
    draws = (resample(x, np.random.default_rng(0), times)[..., 0, None] <= taus).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    finite = np.where(np.isfinite(x), x, 2 * abs(taus).max() + 1)
    return 1 - performance_profile(finite, taus), low, high


DRAW = {f.__name__: f for f in (intervals, curves, pictures, rate_distortion, gap, profile)}
