"""What a run needs around its core: optimizers, checkpoints, run folder, figures, signals, devices."""
