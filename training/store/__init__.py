"""The run folder: checkpoints, metrics, lock, record of the environment, and the one atomic writer."""
