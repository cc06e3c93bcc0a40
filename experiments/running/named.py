"""Objects that a command line names, as `package.module:name`."""

import difflib
import importlib
import sys
from pathlib import Path
from typing import Any


class UsageError(ValueError):
    """The command line asks for what there is not; the message is one line."""


class UserFunctionError(RuntimeError):
    """A user's module or function raised; the message is one line that says what."""


def load(path: str) -> Any:
    """Import `package.module:name` from here or what is installed, and return what it names.

    Raises UsageError, or UserFunctionError where the import itself raises.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise UsageError(f"a function is named as package.module:name, got {path!r}")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise UsageError(f"{path}: no module {error.name!r} (from {Path.cwd()} or installed)") from error
        raise UserFunctionError(f"importing {module} raised {short(error)}") from error
    except (Exception, SystemExit) as error:
        raise UserFunctionError(f"importing {module} raised {short(error)}") from error
    finally:
        sys.path.pop(0)
    for part in name.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, [n for n in dir(found) if not n.startswith("_")], n=2, cutoff=0.4)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"{path}: {module} has no {name!r}{hint}")
        found = getattr(found, part)
    return found


def short(error: BaseException) -> str:
    """Return the type and the first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
