"""The command line of a run: `tyro` builds it from the config classes; parts are chosen by name.

`--objective reconstruction --model.encoder conv --model.encoder.channels 16 32` first puts the named parts
into the default config, then lets tyro parse the fields that this choice has. Usage errors are one line
and exit with 2.
"""

import contextlib
import dataclasses
import io
import itertools
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro
from tyro.conf import arg

from models.config import (
    ConfigError,
    flat,
    from_dict,
    is_config,
    kind,
    nearest,
    part_types,
    replace_at,
    validate,
)
from training.cli.options import Command, Options
from training.store.errors import RunError
from training.store.identity import read_config


def usage_error(message: str) -> NoReturn:
    """Print one line and leave with exit code 2."""
    print(f"train.py: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def choices(cfg: Any, prefix: str = "") -> Iterator[tuple[str, tuple[type, ...], Any]]:
    """Yield (dotted path, alternatives, current value) of every part that can be chosen."""
    for f in dataclasses.fields(cfg):
        value = getattr(cfg, f.name)
        if is_config(value):
            options = part_types(type(cfg), f.name)
            if len(options) > 1:
                yield prefix + f.name, options, value
            yield from choices(value, f"{prefix}{f.name}.")


def _option(token: str) -> tuple[str, str | None]:
    name, _, value = token.partition("=")
    return name[2:].replace("-", "_"), value if "=" in token else None


def take_option(argv: list[str], name: str) -> str | None:
    """Return the value of `--name value` or `--name=value` in argv and remove it; None when absent."""
    found = None
    for i in range(len(argv) - 1, -1, -1):
        if argv[i].startswith("--") and _option(argv[i])[0] == name:
            _, value = _option(argv[i])
            if value is None:
                if i + 1 >= len(argv) or argv[i + 1].startswith("--"):
                    usage_error(f"--{name.replace('_', '-')} needs a value")
                value = argv.pop(i + 1)
            argv.pop(i)
            found = found or value
    return found


def _values(argv: Sequence[str], name: str) -> list[str]:
    """Return the values that stand after `--name`, up to the next option."""
    after = itertools.dropwhile(lambda token: token != f"--{name}", argv)
    return list(itertools.takewhile(lambda token: not token.startswith("--"), itertools.islice(after, 1, None)))


def choose_parts(cfg: Any, argv: list[str]) -> Any:
    """Return `cfg` with every part that argv names, outer parts first; the options used leave argv."""
    seen: set[str] = set()
    while True:
        todo = [path for path, _, _ in choices(cfg) if path not in seen]
        if not todo:
            return cfg
        for path in todo:
            seen.add(path)
            value = take_option(argv, path)
            if value is not None:
                names = [kind(t) for p, options, _ in choices(cfg) if p == path for t in options]
                if value.lower() not in names:
                    close = nearest(value, names, 1)[0]
                    usage_error(f"--{path} has no choice {value!r}: did you mean {close}? ({', '.join(names)})")
                cfg = replace_at(cfg, path, value)
                break  # its own parts may differ now


def load_config(config_class: type, folder: str, accept: Collection[str] = ()) -> tuple[Any, str | None]:
    """Return the config and data folder that a run folder's config.json holds.

    Raises ConfigError when there is none or it does not fit this version.
    """
    path = Path(folder) / "config.json"
    try:
        values = read_config(Path(folder), accept, lambda line: print(line, file=sys.stderr))
        data_dir = values.pop("data_dir", None)
        return from_dict(config_class, values), data_dir
    except RunError as error:
        raise ConfigError(f"no run in {folder}: {error}" if not path.exists() else str(error)) from None
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path} is not the config of a run: {error}") from None


def _parts_help(cfg: Any) -> str:
    rows = [
        f"--{path} {{{','.join(kind(t) for t in options)}}} (here: {kind(type(value))})"
        for path, options, value in choices(cfg)
    ]
    return "Parts, chosen by name; each brings its own options (shown below for the present choice):\n\n" + "\n\n".join(
        rows
    )


def _tyro(cfg: Any, argv: Sequence[str], data_dir: str | None, description: str) -> Command:
    field = ("config", Annotated[type(cfg), arg(name="")])
    cls = dataclasses.make_dataclass("Run", [field], bases=(Options,), frozen=True, kw_only=True)
    err = io.StringIO()
    try:
        with contextlib.redirect_stderr(err):
            parsed = tyro.cli(
                cls,
                args=list(argv),
                default=cls(config=cfg, data_dir=data_dir),
                prog="train.py",
                description=f"{description}\n\n{_parts_help(cfg)}",
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as leave:
        if leave.code:
            usage_error(one_line(err.getvalue()))
        raise
    return Command(**{f.name: getattr(parsed, f.name) for f in dataclasses.fields(Command)})


_HINT = re.compile("Perhaps|Argument helptext|For full|Similar|Are you")


def one_line(box: str) -> str:
    """Return the message inside tyro's box as one line, with the nearest option it suggests."""
    lines = [line.strip("│╭╮╰╯─ \t") for line in box.splitlines()]
    lines = [line for line in lines if line]
    body = lines[1:] if box.lstrip().startswith("╭") else lines  # the first line is the box's title
    stop = next((i for i, line in enumerate(body) if _HINT.match(line)), len(body))
    message = " ".join(body[:stop])
    near = next((line for line in body[stop:] if line.startswith("--")), None)
    if near and not body[stop].startswith("Argument"):
        message += f"; did you mean {near.split()[0]}?"
    return message + " (train.py --help lists all options)"


def parse(config_class: type, argv: Sequence[str], description: str) -> Command:
    """Return the command that `argv` asks for; usage errors print one line and exit with 2."""
    rest = list(argv)
    try:
        for text in argv:
            if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
                raise ConfigError(f"an option holds bytes that are no UTF-8: {text!r}; rename the file or folder")
        default, data_dir = config_class(), None
        look = list(argv)
        source = take_option(look, "from")
        run_dir = take_option(look, "run_dir")
        resumed = "--resume" in look and run_dir and (Path(run_dir) / "config.json").exists()
        if "--resume" in look and not run_dir:
            raise ConfigError("--resume needs --run-dir, the folder of the run to continue")
        if resumed or source:
            accept = () if resumed else _values(argv, "accept")
            default, data_dir = load_config(config_class, run_dir if resumed else source, accept)  # type: ignore[arg-type]
        command = _tyro(choose_parts(default, rest), rest, data_dir, description)
        if resumed:
            changed = [p for p, v in flat(command.config) if dict(flat(default)).get(p, v) != v]
            if command.config != default:
                raise ConfigError(
                    f"--resume continues the run as it was, but {', '.join(changed)} differs; "
                    f"for another run use --from {run_dir} and a new --run-dir"
                )
        validate(command.config)
        if command.threads is not None and not 1 <= command.threads <= 1024:
            raise ConfigError(f"--threads must be from 1 to 1024, got {command.threads}")
        return command
    except ConfigError as error:
        usage_error(str(error))
