"""Experiment trackers: a run's metrics and figures sent elsewhere as well (`--log tensorboard wandb mlflow`).

The run folder stays the record; a tracker is a copy of it that others can look at. Each is three functions behind
one protocol, its package an extra of this project, imported when it is asked for. Weights & Biases and MLflow
follow their own environment variables (WANDB_MODE=offline, MLFLOW_TRACKING_URI, ...).

    python -m training.pictures.trackers KIND RUN    sends a finished run
"""

import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..store.errors import RunError
from ..store.metrics_file import NAME as METRICS
from ..store.metrics_file import read_metrics
from ..store.run_folder import read_json
from .drawing import series

TrackerKind = Literal["tensorboard", "wandb", "mlflow"]
Scalars = Mapping[str, float]


class Tracker(NamedTuple):
    """Where metrics go: `scalars(step, {"validation/mse": ...})`, `picture(path)` of a PNG, `close()`."""

    scalars: Callable[[int, Scalars], None]
    picture: Callable[[Path], None]
    close: Callable[[], None]


def _tensorboard(run: Path, config: Mapping[str, Any]) -> Tracker:
    """Event files in run/tensorboard."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(run / "tensorboard"))

    def scalars(step: int, values: Scalars) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return Tracker(scalars, lambda path: writer.add_image(path.stem, _pixels(path), 0, dataformats="HWC"), writer.close)


def _wandb(run: Path, config: Mapping[str, Any]) -> Tracker:
    """A run of Weights & Biases under the folder's name; its files lie in run/wandb."""
    import wandb

    quiet = wandb.Settings(silent=True, console="off")
    job = wandb.init(project="autoencoders-jax", dir=str(run), name=run.name, config=dict(config), settings=quiet)
    scalars = lambda step, values: job.log(dict(values), step=step)

    def close() -> None:
        job.finish()
        wandb.teardown()  # waits until its service has written everything

    return Tracker(scalars, lambda path: job.log({path.stem: wandb.Image(str(path))}), close)


def _mlflow(run: Path, config: Mapping[str, Any]) -> Tracker:
    """A run of MLflow under the folder's name; without MLFLOW_TRACKING_URI its files lie in run/mlflow."""
    import os

    import mlflow

    pictures = None
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        pictures = (run / "mlflow").resolve().as_uri()
        mlflow.set_tracking_uri(f"sqlite:///{(run / 'mlflow.db').resolve()}")
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name("autoencoders-jax")
    experiment = found.experiment_id if found else client.create_experiment("autoencoders-jax", pictures)
    number = client.create_run(experiment, run_name=run.name).info.run_id
    for name, value in config.items():
        client.log_param(number, name, value)

    def scalars(step: int, values: Scalars) -> None:
        for name, value in values.items():
            client.log_metric(number, name, value, step=step)

    picture = lambda path: client.log_artifact(number, str(path))
    return Tracker(scalars, picture, lambda: client.set_terminated(number))


_KINDS: dict[str, tuple[str, Callable[[Path, Mapping[str, Any]], Tracker]]] = {
    "tensorboard": ("tensorboardX", _tensorboard),
    "wandb": ("wandb", _wandb),
    "mlflow": ("mlflow", _mlflow),
}


def check(kinds: Iterable[str]) -> None:
    """Raise RunError, before any work, for a tracker whose package is missing."""
    for kind in kinds:
        if kind not in _KINDS:
            raise RunError(f"there is no tracker {kind!r}; known are {', '.join(_KINDS)}")
        package = _KINDS[kind][0]
        if sys.modules.get(package, ...) is None or importlib.util.find_spec(package) is None:
            raise RunError(f"--log {kind} needs {package}; install it with pip install {package}")


def open_tracker(kind: str, run: Path, config: Mapping[str, Any]) -> Tracker:
    """Start a tracker of the run in folder `run` with its config as flat names. Raises RunError."""
    check([kind])
    try:
        return _KINDS[kind][1](run, config)
    except Exception as error:  # every service has errors of its own; none of them may end in a traceback
        raise RunError(f"--log {kind}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def values_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Return {"train/nll_nats": ..., "validation/mse": ...} of a row of metrics; lists and words are left out."""
    found = series([dict(row)], axis="step")
    return {f"{split}/{name}": values[0] for name, splits in found.items() for split, (_, values) in splits.items()}


def send(kind: str, run: Path) -> None:
    """Send a whole run folder to a tracker. Raises RunError when it is no run folder or the package is missing."""
    check([kind])
    if not (run / "config.json").is_file():
        raise RunError(f"{run} is no run folder (no config.json): give one, such as runs/digits-elbo-...")
    tracker = open_tracker(kind, run, flat(read_json(run / "config.json")))
    for row in read_metrics(run / METRICS):
        tracker.scalars(int(row["step"]), values_of(row))
    for path in sorted((run / "figures").glob("*.png")):
        tracker.picture(path)
    tracker.close()


class Copies:
    """The trackers of a run while it trains: called with each row of metrics. `with` closes them.

    A tracker that fails later on (a service gone) is dropped with a line on stderr: it never ends the training.
    Raises RunError where one cannot be started.
    """

    def __init__(self, kinds: Sequence[str], run: Path, config: Mapping[str, Any]):
        check(kinds)
        self.trackers = {kind: open_tracker(kind, run, flat(config)) for kind in dict.fromkeys(kinds)}

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Send a row of metrics."""
        self._each(lambda tracker: tracker.scalars(int(row["step"]), values_of(row)))

    def pictures(self, paths: Iterable[Path]) -> None:
        """Send figures."""
        for path in paths:
            self._each(lambda tracker, path=path: tracker.picture(path))

    def _each(self, action: Callable[[Tracker], None]) -> None:
        for kind, tracker in list(self.trackers.items()):
            try:
                action(tracker)
            except Exception as error:
                del self.trackers[kind]
                why = " ".join(str(error).split())
                print(f"--log {kind} is given up ({type(error).__name__}: {why}); training goes on", file=sys.stderr)

    def __enter__(self) -> "Copies":
        return self

    def __exit__(self, *_: object) -> None:
        self._each(lambda tracker: tracker.close())


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return out


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def main(argv: Sequence[str]) -> int:
    """Send a finished run; return the exit code."""
    if len(argv) != 2:
        print(f"usage: python -m training.pictures.trackers {{{','.join(_KINDS)}}} RUN", file=sys.stderr)
        return 2
    try:
        send(argv[0], Path(argv[1]))
    except RunError as error:
        print(f"training.pictures.trackers: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
