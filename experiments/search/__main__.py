"""`python -m experiments.search`: a first worker starts at once, and imports JAX while this process does."""

import signal
import sys
from collections.abc import Sequence
from typing import Any

from experiments.search.workers.spawn import end, start_early


def _stop(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(number)


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status (see `command.command`); no process that was started here is left."""
    words = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _stop)
    early = start_early(words)
    try:
        from experiments.search.command import command

        return command(words, early)
    except KeyboardInterrupt as error:  # before anything was begun
        return 143 if error.args else 130
    finally:
        if early is not None:
            end(early)


if __name__ == "__main__":
    sys.exit(main())
