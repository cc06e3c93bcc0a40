"""`python -m experiments.search`: signals are caught before anything slow is imported."""

import sys
from collections.abc import Sequence

from experiments.search.stopping import install


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status (see `command.command`); no process that was started here is left."""
    from experiments.search.command import command

    return command(list(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    install()
    from training.cli.progress import keep_going_without_output

    keep_going_without_output()
    sys.exit(main())
