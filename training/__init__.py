"""What a run needs around its core: optimizers, checkpoints, run folder, figures, signals, devices."""

from .arrays import params_sha256
from .errors import DamagedCheckpoint, RunError
from .run_folder import RunFolder, default_path
from .signals import StopSignals

__all__ = ["DamagedCheckpoint", "RunError", "RunFolder", "StopSignals", "default_path", "params_sha256"]
