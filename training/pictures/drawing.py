"""Figures from plain arrays: each function draws one and writes it as a PNG, atomically, without a screen.

Events are images (H, W, 1) or (H, W, 3) in [0, 1]; anything else (tables, signals) is drawn as a line
over its flattened elements.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..store.files import replacing
from .names import words

TRAIN, VALIDATION, INK = "#2f6db3", "#e07b28", "#333333"
_STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.dpi": 110,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.06,
}


@contextlib.contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Any]:
    """Give a matplotlib Figure of that size in inches; at the end of the block it is written to `path`."""
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot: no screen, no global state
    from matplotlib.ticker import LogFormatterSciNotation

    with matplotlib.rc_context(_STYLE):
        drawing = Figure(figsize=(width, height), layout="constrained")
        yield drawing
        for axis in (axis for axes in drawing.axes for axis in (axes.xaxis, axes.yaxis)):
            if isinstance(axis.get_major_formatter(), LogFormatterSciNotation):  # nothing else was asked for
                plain_numbers(axis)
        with replacing(path) as file:
            drawing.savefig(file, format="png")


def plain_numbers(axis: Any) -> None:
    """Write the numbers of a short logarithmic axis as 20, not 2 x 10^1, and some of them: all run into each other."""
    from matplotlib.ticker import LogFormatter

    low, high = axis.get_view_interval()
    if high > 100 * low:
        return
    decades = 2 if axis.axis_name == "y" else 1.5  # above each other there is more room
    chosen = LogFormatter(minor_thresholds=(decades, 0.5))  # knows which to write, but writes 0.02 as 2e-02
    chosen.set_axis(axis)
    chosen.set_locs()
    axis.set_major_formatter(lambda x, _: f"{x:g}")
    axis.set_minor_formatter(lambda x, at: f"{x:g}" if chosen(x, at) else "")


def is_image(shape: Sequence[int]) -> bool:
    """Whether an event of this shape is an image."""
    return len(shape) == 3 and shape[2] in (1, 3) and min(shape[:2]) > 1


def tiles(images: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return (rows * columns, H, W, C) images as one RGB picture with white lines between them."""
    _, height, width, channels = images.shape
    gap = max(1, round(height / 14))
    out = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for i, image in enumerate(np.clip(np.nan_to_num(images[: rows * columns]), 0, 1)):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        out[top : top + height, left : left + width] = image if channels == 3 else image.repeat(3, axis=2)
    return out


def _show(axes: Any, images: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw tiles without ticks; return the centres of the rows and of the columns in axis units."""
    picture = tiles(images, rows, columns)
    axes.imshow(picture, interpolation="nearest")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    gap = max(1, round(images.shape[1] / 14))
    height, width = images.shape[1] + gap, images.shape[2] + gap
    return (np.arange(rows) + 0.5) * height - gap / 2 - 0.5, (np.arange(columns) + 0.5) * width - gap / 2 - 0.5


_SPLIT = re.compile(r"^(train|validation|valid|val)[/._ ](.+)$|^(.+)[/._ ](train|validation|valid|val)$")


def series(
    rows: Sequence[dict[str, Any]], axis: str = "epoch"
) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """Sort the rows of metrics.jsonl into metric -> split -> (positions, values).

    A split is named by a nested dict ({"train": {...}}) or a prefix or suffix of the key ("train/nll").
    Positions are the rows' `axis`, or their steps where they have none; values that are not finite
    numbers are left out.
    """
    out: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for row in rows:
        at = float(row.get(axis, row["step"]))
        nested = {f"{k}/{m}": v for k, d in row.items() if isinstance(d, dict) for m, v in d.items()}
        for name, value in (row | nested).items():
            found = _SPLIT.match(name)
            if not found or isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            split, metric = (found[1], found[2]) if found[1] else (found[4], found[3])
            split = "train" if split == "train" else "validation"
            epochs, values = out.setdefault(metric, {}).setdefault(split, ([], []))
            epochs.append(at)
            values.append(float(value))
    return out


def curves(path: Path, rows: Sequence[dict[str, Any]], most: int = 6) -> bool:
    """Draw metrics against epochs, training and validation in one panel each; False if there are none."""
    found = series(rows)
    names = sorted(found, key=lambda n: (-len(found[n]), n not in ("loss", "negative_elbo_nats"), n))[:most]
    if not names:
        return False
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    unit = "epoch" if any("epoch" in row for row in rows) else "step"
    with figure(path, 3.6 * columns + 0.4, 2.7 * lines + 0.3) as fig:
        fig.suptitle("Learning curves", fontsize=13)
        for axes, name in zip(fig.subplots(lines, columns, squeeze=False).flat, names, strict=False):
            for split, colour in (("train", TRAIN), ("validation", VALIDATION)):
                if split not in found[name]:
                    continue
                epochs, values = found[name][split]
                marker = "o" if len(values) < 30 else ""
                axes.plot(epochs, values, color=colour, label=split, marker=marker, markersize=3, linewidth=1.6)
            text, of = words(name)
            axes.set(title=f"{text} ({of})" if of.startswith("nats") else text, xlabel=unit)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(loc="best")
        for axes in fig.axes[len(names) :]:
            axes.set_visible(False)
    return True


def reconstructions(
    path: Path,
    originals: np.ndarray,
    decoded: np.ndarray,
    columns: int = 10,
    noisy: np.ndarray | None = None,
    given: str = "noisy",
    source: str = "test set",
) -> None:
    """Draw originals above their reconstructions, both (n, *event), `noisy` (`given` in a word) between them.

    `source` says in words whose they are. Lines share a panel.
    """
    title = f"Originals and their reconstructions ({source})"
    shown, names = [originals, decoded], ["original", "decoded"]
    if noisy is not None:
        title = f"Originals, what the model was given, and its answer ({source})"
        shown, names = [originals, noisy, decoded], ["original", given, "decoded"]
    if not is_image(originals.shape[1:]):
        return _lines(path, title, [part[:6] for part in shown], names)
    groups = max(1, min(2, len(originals) // columns))
    columns = min(columns, len(originals))
    with figure(path, 0.85 * columns + 1.3, 0.95 * len(shown) * groups + 0.5) as fig:
        fig.suptitle(title, fontsize=13)
        for g, axes in enumerate(fig.subplots(groups, 1, squeeze=False).flat):
            part = slice(g * columns, (g + 1) * columns)
            centres, _ = _show(axes, np.concatenate([each[part] for each in shown]), len(shown), columns)
            axes.set_yticks(centres, names)
            axes.tick_params(length=0)
    return None


def samples(path: Path, decoded: np.ndarray, source: str) -> None:
    """Draw decoded draws of the latent; `source` says in words what they were drawn from."""
    if not is_image(decoded.shape[1:]):
        return _lines(path, f"Samples: {source}", [decoded[:6]], ["decoded"])
    columns = min(12, len(decoded))
    rows = -(-len(decoded) // columns)
    with figure(path, 0.62 * columns + 0.2, 0.62 * rows + 0.6) as fig:
        fig.suptitle(f"Samples: {source}", fontsize=13)
        _show(fig.subplots(), decoded, rows, columns)
    return None


def traversal(path: Path, decoded: np.ndarray, values: np.ndarray, names: Sequence[str], title: str) -> None:
    """Draw what each latent does: `decoded` is (latents, values, *event), a row of images per latent."""
    count, steps = decoded.shape[:2]
    if not is_image(decoded.shape[2:]):
        return _lines(path, title, list(decoded.swapaxes(0, 1)), [f"{v:+.1f}" for v in values], names)
    with figure(path, 0.62 * steps + 1.0, 0.62 * count + 1.1) as fig:
        fig.suptitle(title, fontsize=12)
        axes = fig.subplots()
        rows, columns = _show(axes, decoded.reshape(count * steps, *decoded.shape[2:]), count, steps)
        axes.set_yticks(rows, names)
        axes.set_xticks(columns, [f"{v:+.1f}" if v else "0" for v in values])
        axes.tick_params(length=0)
    return None


def latent_scatter(path: Path, codes: np.ndarray, labels: np.ndarray | None = None, source: str = "test set") -> None:
    """Draw codes (n, latent) of `source`, coloured by label (n,); more than two latents by PCA."""
    points, names, more = project(codes)
    with figure(path, 6.4, 5.2) as fig:
        axes = fig.subplots()
        axes.set(title=f"Latent codes ({source}){more}", xlabel=names[0], ylabel=names[1])
        classes = [] if labels is None else list(np.unique(labels))
        if labels is None or len(classes) > 20:
            colour: Any = {"color": TRAIN} if labels is None else {"c": labels, "cmap": "viridis"}
            dots = axes.scatter(*points.T, s=9, linewidths=0, **colour)
            if labels is not None:
                fig.colorbar(dots, label="label")
        else:
            _scatter_classes(axes, points, labels, classes)
        if codes.shape[1] > 1:
            axes.set_aspect("equal", adjustable="datalim")


def _scatter_classes(axes: Any, points: np.ndarray, labels: np.ndarray, classes: list[Any]) -> None:
    from matplotlib import colormaps

    palette = colormaps["tab10" if len(classes) <= 10 else "tab20"]
    for i, name in enumerate(classes):
        chosen = labels == name
        axes.scatter(*points[chosen].T, s=9, color=palette(i), label=str(name), linewidths=0, alpha=0.8)
    axes.legend(title="label", loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2, handletextpad=0.1)


def project(codes: np.ndarray) -> tuple[np.ndarray, tuple[str, str], str]:
    """Return points (n, 2), the names of the axes, and what to add to a title; more than two latents by PCA."""
    if codes.shape[1] == 1:
        jitter = np.random.default_rng(0).uniform(-1, 1, (len(codes), 1))
        return np.hstack([codes, jitter]), ("z 1", "(random, for legibility)"), ""
    if codes.shape[1] == 2:
        return codes, ("z 1", "z 2"), ""
    centred = codes - codes.mean(0)
    least = max(0, 2 - len(codes))  # a single code has one component: a row of zeros gives it the second
    left, singular, _ = np.linalg.svd(np.pad(centred, ((0, least), (0, 0))), full_matrices=False)
    share = 100 * singular**2 / max(np.sum(singular**2), np.finfo(float).tiny)
    names = (f"PC 1 ({share[0]:.0f} % of variance)", f"PC 2 ({share[1]:.0f} % of variance)")
    return (left[:, :2] * singular[:2])[: len(codes)], names, f": first two of {codes.shape[1]} by PCA"


def _lines(
    path: Path,
    title: str,
    groups: list[np.ndarray],
    names: Sequence[str],
    panels: Sequence[str] | None = None,
) -> None:
    """Draw one panel per example, of a series per column of it (three at most), with a line per group, (n, *event)."""
    from matplotlib import colormaps

    several = groups[0].ndim == 3 and groups[0].shape[2] > 1
    if several:
        shown = min(3, groups[0].shape[2])
        given = panels or [f"example {i + 1}" for i in range(len(groups[0]))]
        panels = [f"{name}, column {c + 1}" for name in given for c in range(shown)]
        groups = [g[:, :, :shown].swapaxes(1, 2).reshape(-1, g.shape[1]) for g in groups]
    count = min(12, len(groups[0]))
    columns = min(3, count)
    rows = -(-count // columns)
    if len(groups) <= 2:
        colours: list[Any] = [INK, VALIDATION] if len(groups) == 2 else [TRAIN]
    else:
        colours = [colormaps["coolwarm"](i / (len(groups) - 1)) for i in range(len(groups))]
    with figure(path, 3.4 * columns, 1.8 * rows + 0.7) as fig:
        fig.suptitle(title, fontsize=12)
        grid = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for i, axes in enumerate(grid.flat):
            axes.set_visible(i < count)
            for group, name, colour in zip(groups, names, colours, strict=True):
                if i < count:
                    axes.plot(np.ravel(group[i]), color=colour, label=name, linewidth=1.3)
            if panels is not None and i < count:
                axes.set_title(panels[i], fontsize=10)
        for axes in grid.flat[max(0, count - columns) : count]:  # the lowest visible of each column
            axes.set_xlabel("step" if several or groups[0].ndim == 3 else "element")
            axes.tick_params(labelbottom=True)
        for axes in grid[:, 0]:
            axes.set_ylabel("value")
        if len(groups) > 1:
            handles, texts = grid.flat[0].get_legend_handles_labels()
            fig.legend(handles, texts, loc="outside right upper")
