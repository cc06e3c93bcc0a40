"""The options of a run that are not its config."""

import dataclasses
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import arg

from training.pictures.trackers import TrackerKind
from training.store.identity import Accepted


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What belongs to this machine and this call, not to the config."""

    data_dir: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder with data files, one folder per set (default: this project's cache)."""
    run_dir: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of this run (default: a new one under runs/)."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Continue the run in --run-dir at its last checkpoint (a new run if there is none); more --epochs may be given."""
    from_: Annotated[str | None, arg(name="from", metavar="RUN", help_behavior_hint="")] = None
    """Start from the config of the run in this folder, not its weights; other options change it."""
    init_from: Annotated[str | None, arg(metavar="RUN", help_behavior_hint="")] = None
    """Start from the weights that the run in this folder tested; the model's parts must be the same."""
    init_optimizer: Literal["fresh", "kept"] = "fresh"
    """With --init-from: the optimizer's moments start anew, or are kept; the schedule starts anew in both."""
    from_trial: Annotated[str | None, arg(metavar="SWEEP[:POINT]", help_behavior_hint="")] = None
    """Start from the config of a trial: of the sweep's best point, or of the one named; or of a row of a table:
    RECORD.json[:ROW]; other options change it."""
    accept: Annotated[tuple[Accepted, ...], arg(metavar="WHAT", help_behavior_hint="(default: nothing)")] = ()
    """With --resume or --from, what may differ from the run's record: data, rows, notes, config."""
    threads: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """XLA's threads on a CPU, for the same bits on any number of cores (default: one per core)."""
    dispatch: Literal["auto", "loop", "step"] = "auto"
    """Steps per call of XLA: many (loop), one (step), or whichever was measured to be faster here (auto)."""
    figures: bool = True
    """Draw the figures at the end."""
    metrics: Annotated[tuple[str, ...], arg(metavar="NAME", help_behavior_hint="(default: none)")] = ()
    """Measure these at the end as well, geometry for one: the names of `python -m experiments.evaluate --help`."""
    log: Annotated[tuple[TrackerKind, ...], arg(metavar="TRACKER", help_behavior_hint="(default: nowhere)")] = ()
    """Send metrics and figures there as well: tensorboard, wandb, mlflow (extras; each process is one run there)."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Say in one line how the data are understood, and stop."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command(RunOptions):
    """A run as asked for: its config and its options."""

    config: Any
