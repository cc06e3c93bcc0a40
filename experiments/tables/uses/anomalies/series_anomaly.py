"""Anomalies in time: heart beats, and windows of sensor and traffic series.

Claim: The mean AUROC of a VAE's likelihood over the beats and series is at least that of the better of PCA and
    isolation forest.
Source: ECG5000 (Chen et al. 2015; UCR archive): normal beats against all others. Numenta Anomaly Benchmark (Lavin &
    Ahmad 2015): series with labelled times; its own score rewards early alarms and is not this one.
Command: python -m experiments series_anomaly --data-dir DIR
Cost: 6 sets, 3 seeds, 7 scores; VAEs 64-32-8 on windows of 48 points, and on beats of 140.
Expected: AUROC of beats above 0.95 for most; of series below, for their labelled times are wide and hold usual windows.
Caveats: Beats: fitted to 60% of the normal ones. Series: fitted to the first 40% of the time, whatever it holds; a
    window is anomalous whose middle lies in a labelled time. Without --data-dir, one made series of daily waves.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data import DataError
from data.dataset import digest
from data.files.kinds.series import Cutting, recorded
from data.options import Options
from experiments.reporting.plots import headline
from experiments.running.claims import Claim
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.tables.uses.anomalies.anomaly import (
    AnomalyProtocol,
    Detector,
    Fold,
    components,
    fitted,
    forest,
    judged,
    neighbours,
    one_class,
    words,
)
from training.pictures.drawing import figure


class SeriesProtocol(NamedTuple):
    """What every score is fitted and tested on."""

    window: int = 48
    stride: int = 4
    steps: int = 1000
    hidden: int = 64
    samples: int = 32
    noise: float = 0.6
    """standard deviation of the likelihood; that of the training values is 1"""

    def fit(self) -> AnomalyProtocol:
        """Return the same for the fits of the table of rows."""
        return AnomalyProtocol(steps=self.steps, hidden=self.hidden, samples=self.samples, noise=self.noise)


@functools.cache
def known(folder: str | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return {name: (values (t,), anomalous (t,))} of series, and {"beats": (x (n, 140), anomalous (n,))}.

    Raises DataError for a folder without `nab` and `ecg5000`.
    """
    if folder is None:
        rng = np.random.default_rng(0)
        value = np.sin(np.arange(2400) * 2 * np.pi / 96) + 0.1 * rng.normal(size=2400)
        value[1700:1760] = 0.3 * rng.normal(size=60)
        return {"made": (value, (np.arange(2400) >= 1700) & (np.arange(2400) < 1760))}
    root, out = Path(folder), {}
    beats, windows = root / "ecg5000" / "ECG5000_TRAIN.ts", root / "nab" / "combined_windows.json"
    if not beats.is_file() or not windows.is_file():
        raise DataError(f"{folder} holds no ecg5000/ECG5000_TRAIN.ts and nab/combined_windows.json: leave it away")
    found, _ = recorded(beats, Cutting(), Options(), {})
    out["beats"] = np.stack(found.series)[..., 0], np.array(found.classes)[found.y] != "1"
    for name, spans in json.loads(windows.read_text()).items():
        path = root / "nab" / name
        if path.is_file() and spans:
            found, _ = recorded(path, Cutting(), Options(), {})
            inside = [any(a <= time <= b for a, b in spans) for time in found.times or ()]  # ISO times sort as text
            out[path.stem] = found.series[0][:, 0], np.array(inside)
    return out


@functools.cache
def fold(protocol: SeriesProtocol, folder: str | None, name: str, seed: int) -> Fold:
    """Return the rows of a set: beats drawn by the seed, windows in order."""
    x, y = known(folder)[name]
    if x.ndim == 2:
        usual = np.random.default_rng(seed).permutation(np.flatnonzero(~y))[: round(0.6 * (~y).sum())]
        rest = np.setdiff1d(np.arange(len(x)), usual)
        train, test, anomalous = x[usual], x[rest], y[rest]
    else:
        rows = np.lib.stride_tricks.sliding_window_view(x, protocol.window)[:: protocol.stride]
        middle = y[protocol.window // 2 :: protocol.stride][: len(rows)]
        n = round(0.4 * len(rows))
        after = n + -(-protocol.window // protocol.stride)  # no test window shares a value with a training one
        train, test, anomalous = rows[:n], rows[after:], middle[after:]
    scaled = lambda a: (a - train.mean()) / train.std()
    return Fold(scaled(train), scaled(test), np.asarray(anomalous).astype(int))


def model(what: str, noise: bool = True) -> Any:
    """Return a score of a VAE, or (no noise) of an autoencoder."""

    def score(protocol: SeriesProtocol, found: Fold, seed: int) -> np.ndarray:
        how, level = protocol.fit(), protocol.noise if noise else 0.0
        return words(how, found, seed, fitted(how, found.train, seed, level), level)[what][len(found.train) :]

    return score


def usual(detector: Detector) -> Any:
    """Return the score of a detector of rows."""
    return lambda protocol, found, seed: detector(protocol.fit(), found, seed)


def row(score: Any) -> Case:
    """Return the case of a score: AUROC and AUPRC, means over the sets and each; its course over the test rows."""

    def of(protocol: SeriesProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        scores, out = {}, dict[str, Any]()
        for name in known(data.folder):
            found = fold(protocol, data.folder, name, seed)
            values = score(protocol, found, seed)
            scores[name] = found.anomalous, values
            some = slice(None, None, max(1, len(values) // 400))
            out |= {f"score of {name}": values[some], f"labels of {name}": found.anomalous[some]}
            out[f"value of {name}"] = found.test[some, found.test.shape[1] // 2]
        return judged(scores) | out

    return Case(of)


VAE, PCA_ROW, FOREST = "VAE, likelihood of 32 draws", "PCA", "isolation forest"


def courses(path: Path, record: Mapping[str, Any], arrays: Any) -> bool:
    """Draw the values of every series and the rank of the VAE's score over them (seed 0), labelled times shaded."""
    found = {k.removeprefix("score of "): v[0] for k, v in arrays[VAE].items() if k.startswith("score of ")}
    found.pop("beats", None)
    with figure(path, 9.0, 1.0 + 1.3 * len(found)) as fig:
        for axes, (name, score) in zip(fig.subplots(len(found), 1, squeeze=False)[:, 0], found.items(), strict=True):
            value, inside = (arrays[VAE][f"{what} of {name}"][0] for what in ("value", "labels"))
            place = np.arange(len(score))
            low, high = value.min(), value.max()
            axes.fill_between(place, low, high, where=inside > 0, color="C1", alpha=0.25, linewidth=0)
            axes.plot(place, value, color="0.6", linewidth=0.7)
            axes.plot(place, low + (high - low) * score.argsort().argsort() / len(score), color="C0", linewidth=0.9)
            axes.set(ylabel="value", xticks=[])
            axes.set_title(f"{name}: value (grey), rank of the score (blue), labelled (shaded)", fontsize=8)
        headline(fig, record)
    return True


def lead(rows: Any) -> Any:
    """Return by how much the VAE's mean AUROC is ahead of the better of PCA and isolation forest, per seed."""
    return rows[VAE]["auroc"] - max((rows[name]["auroc"] for name in (PCA_ROW, FOREST)), key=np.mean)


STUDY = Study(
    rows={
        "autoencoder, error": row(model("error", noise=False)),
        "VAE, error": row(model("error")),
        VAE: row(model("likelihood")),
        PCA_ROW: row(usual(components)),
        FOREST: row(usual(forest)),
        "one-class SVM": row(usual(one_class)),
        "k nearest neighbours": row(usual(neighbours)),
    },
    protocol=SeriesProtocol(),
    metric="missing_auroc",
    columns=("auroc", "auprc"),
    sources=lambda data: {
        name: {"sha256": {"x": digest(x), "y": digest(y)}} for name, (x, y) in known(data.folder).items()
    },
    claims=(
        Claim("mean AUROC of the VAE's likelihood minus that of the better of PCA and isolation forest", lead, 0.0),
    ),
    figures=("intervals", courses),
    profiles={
        "smoke": Profile(
            1, {"steps": 20, "hidden": 8, "samples": 2}, (VAE, PCA_ROW, FOREST), "20 steps of narrow networks"
        ),
        "cpu": Profile(3),
    },
)
