"""What a run needs around its core: optimizers, checkpoints, run folder, figures, signals, devices."""

from .signals import StopSignals
from .store.arrays import params_sha256
from .store.errors import DamagedCheckpoint, RunError
from .store.run_folder import RunFolder, default_path

__all__ = ["DamagedCheckpoint", "RunError", "RunFolder", "StopSignals", "default_path", "params_sha256"]
