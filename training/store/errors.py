"""The one exception a run raises for what its user can put right; `train.py` prints it as one line."""


class RunError(RuntimeError):
    """A run cannot go on: the message is one line that says what is wrong and what to do (exit code 1)."""

    exit_code = 1


class DamagedCheckpoint(RunError):
    """A checkpoint file does not verify: cut short, a changed byte, or not one of ours."""
