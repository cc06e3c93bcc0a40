"""How far one call goes through our own code: the files it enters, and how often it goes from one to another."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Entered(NamedTuple):
    """The files in which a function was entered, and the number of entries in another file than the one before."""

    files: set[str]
    changes: int


def entered(call: Callable[[], Any], folder: Path) -> Entered:
    """Run `call` and count the Python files below `folder` that it enters (`sys.setprofile`, this thread)."""
    files: set[str] = set()
    last, changes, root = "", 0, str(folder)

    def profile(frame: Any, event: str, _: Any) -> None:
        nonlocal last, changes
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(root) and name != last:
            files.add(name)
            changes += bool(last)
            last = name

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return Entered(files, changes)
