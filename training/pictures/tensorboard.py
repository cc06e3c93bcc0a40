"""Export of a run folder for TensorBoard (extra `tensorboard`): its metrics and its figures."""

import sys
from pathlib import Path

import numpy as np

from ..store.errors import RunError
from ..store.metrics_file import NAME, read_metrics
from .drawing import series


def export(run: Path, target: Path | None = None) -> Path:
    """Write the metrics and figures of the folder `run` as event files to `run/tensorboard` (or `target`).

    Raises RunError when `run` is no run folder, or tensorboardX is missing.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        command = "pip install 'autoencoders-jax[tensorboard]' (or: pip install tensorboardX)"
        raise RunError(f"TensorBoard export needs tensorboardX; install it with {command}") from None
    if not (run / "config.json").is_file():
        raise RunError(f"{run} is no run folder (no config.json): give one, such as runs/digits-elbo-...")
    target = run / "tensorboard" if target is None else target
    with SummaryWriter(str(target)) as writer:
        for metric, splits in series(read_metrics(run / NAME), axis="step").items():
            for split, (steps, values) in splits.items():
                for step, value in zip(steps, values, strict=True):
                    writer.add_scalar(f"{metric}/{split}", value, int(step))
        for path in sorted((run / "figures").glob("*.png")):
            writer.add_image(path.stem, _picture(path), 0, dataformats="HWC")
    return target


def _picture(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    try:
        print(export(Path(sys.argv[1])))
    except (RunError, IndexError) as error:
        sys.exit(str(error) if isinstance(error, RunError) else "usage: python -m training.pictures.tensorboard RUN")
