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
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro
from tyro.conf import arg

from models.config import (
    ConfigError,
    find_kind,
    flat,
    from_dict,
    is_config,
    is_list,
    kind,
    kinds,
    nearest,
    part_types,
    replace_at,
    validate,
)
from training.cli.options import Command, RunOptions
from training.cli.part_lists import as_fields, from_fields
from training.store.errors import RunError
from training.store.identity import read_config
from training.store.trial import trial_config


def usage_error(message: str) -> NoReturn:
    """Print one line and leave with exit code 2."""
    print(f"train.py: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def choices(cfg: Any, prefix: str = "") -> Iterator[tuple[str, tuple[type, ...], Any]]:
    """Yield (dotted path, alternatives, current value) of every part that can be chosen; a list's value is a tuple."""
    for f in dataclasses.fields(cfg):
        value = getattr(cfg, f.name)
        if is_list(type(cfg), f.name):
            yield prefix + f.name, part_types(type(cfg), f.name), value
            for part in value:
                yield from choices(part, f"{prefix}{f.name}.{kind(type(part))}.")
        elif is_config(value):
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


def take_values(argv: list[str], name: str) -> list[str] | None:
    """Return the values of `--name a b c` in argv and remove them; None when absent. No values are an empty list."""
    for i, token in enumerate(argv):
        if token.startswith("--") and _option(token)[0] == name:
            end = i + 1
            while end < len(argv) and not argv[end].startswith("--"):
                end += 1
            given = _option(token)[1]
            values = ([] if given is None else [given]) + argv[i + 1 : end]
            del argv[i:end]
            return values
    return None


def _values(argv: Sequence[str], name: str) -> list[str]:
    """Return the values that stand after `--name`, up to the next option."""
    after = itertools.dropwhile(lambda token: token != f"--{name}", argv)
    return list(itertools.takewhile(lambda token: not token.startswith("--"), itertools.islice(after, 1, None)))


def choose_parts(cfg: Any, argv: list[str]) -> Any:
    """Return `cfg` with every part that argv names, outer parts first; the options used leave argv."""
    seen: set[str] = set()
    while True:
        todo = [(path, value) for path, _, value in choices(cfg) if path not in seen]
        if not todo:
            return cfg
        for path, value in todo:
            seen.add(path)
            chosen: Any = take_values(argv, path) if isinstance(value, tuple) else take_option(argv, path)
            if chosen is not None:
                cfg = replace_at(cfg, path, _kinds_of(cfg, path, chosen))
                break  # its own parts may differ now


def _kinds_of(cfg: Any, path: str, chosen: str | list[str]) -> Any:
    """Return the kinds chosen for the part (or list of parts) at `path`; a usage error for an unknown one."""
    options = {kind(t): t for p, types, _ in choices(cfg) if p == path for t in types}
    for name in [chosen] if isinstance(chosen, str) else chosen:
        if find_kind(options, name) is None:
            close = nearest(name, options, 1)[0]
            usage_error(f"--{path} has no choice {name!r}: did you mean {close}? ({', '.join(options)})")
    return chosen


def load_config(
    config_class: type, folder: str, accept: Collection[str] = (), report: Callable[[str], None] = lambda _: None
) -> tuple[Any, str | None]:
    """Return the config and data folder that a run folder's config.json holds.

    Raises ConfigError when there is none or it does not fit this version.
    """
    path = Path(folder) / "config.json"
    try:
        values = read_config(Path(folder), accept, report)
        data_dir = values.pop("data_dir", None)
        values.pop("init_from", None)
        return from_dict(config_class, values), data_dir
    except RunError as error:
        raise ConfigError(f"no run in {folder}: {error}" if not path.exists() else str(error)) from None
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path} is not the config of a run: {error}") from None


def _parts_help(cfg: Any) -> str:
    rows = []
    for path, options, value in choices(cfg):
        several = isinstance(value, tuple)
        here = (", ".join(kinds(value)) or "none") if several else kind(type(value))
        rows.append(f"--{path} {{{','.join(kind(t) for t in options)}}}{' ...' * several} (here: {here})")
    return "Parts, chosen by name; each brings its own options (shown below for the present choice):\n\n" + "\n\n".join(
        rows
    )


def _tyro(cfg: Any, argv: Sequence[str], data_dir: str | None, description: str) -> Command:
    shown = as_fields(cfg)
    field = ("config", Annotated[type(shown), arg(name="")])
    cls = dataclasses.make_dataclass("Run", [field], bases=(RunOptions,), frozen=True, kw_only=True)
    err = io.StringIO()
    try:
        with contextlib.redirect_stderr(err):
            parsed = tyro.cli(
                cls,
                args=list(argv),
                default=cls(config=shown, data_dir=data_dir),
                prog="train.py",
                description=f"{description}\n\n{_parts_help(cfg)}",
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as leave:
        if leave.code:
            usage_error(one_line(err.getvalue()))
        raise
    options = {f.name: getattr(parsed, f.name) for f in dataclasses.fields(Command)}
    return Command(**options | {"config": from_fields(type(cfg), parsed.config)})


_HINT = re.compile("Perhaps|Argument helptext|For full|Similar|Are you")


def one_line(box: str) -> str:
    """Return the message inside tyro's box as one line, with the nearest option it suggests."""
    lines = [line.strip("│╭╮╰╯─ \t") for line in box.splitlines()]
    lines = [line for line in lines if line]
    titled = box.lstrip().startswith("╭") or not "".join(lines[1:2]).strip("-")  # underlined where there is no UTF-8
    body = [line for line in lines[titled and len(lines) > 1 :] if line.strip("-")]
    stop = next((i for i, line in enumerate(body) if _HINT.match(line)), len(body))
    message = " ".join(body[:stop])
    near = next((line for line in body[stop:] if line.startswith("--")), None)
    if near and not body[stop].startswith("Argument"):
        message += f"; did you mean {near.split()[0]}?"
    return message + " (train.py --help lists all options)"


def _longer(old: Any, new: Any, changed: list[str], run_dir: Any) -> bool:
    """Whether nothing but a larger number of epochs is asked for, and the schedule allows it (ConfigError if not)."""
    if changed != ["epochs"] or new.epochs < old.epochs:
        return False
    if kind(type(old.schedule)) != "constant" or old.updates.warmup:
        raise ConfigError(
            f"--resume cannot add epochs to this run: its {kind(type(old.schedule))} schedule with warm-up "
            f"{old.updates.warmup:g} is a share of them; to go on from its weights use --from {run_dir} "
            f"--init-from {run_dir} and a new --run-dir"
        )
    return True


def parse(config_class: type, argv: Sequence[str], description: str) -> Command:
    """Return the command that `argv` asks for; usage errors print one line and exit with 2."""
    rest = list(argv)
    try:
        for text in argv:
            if not text.isprintable() and any("\ud800" <= letter <= "\udfff" or letter == "\0" for letter in text):
                raise ConfigError(f"an option holds bytes that are no UTF-8 text: {text!r}; rename the file or folder")
        default, data_dir = config_class(), None
        look = list(argv)
        source = take_option(look, "from")
        trial = take_option(look, "from_trial")
        run_dir = take_option(look, "run_dir")
        resumed = "--resume" in look and run_dir and (Path(run_dir) / "config.json").exists()
        if "--resume" in look and not run_dir:
            raise ConfigError("--resume needs --run-dir, the folder of the run to continue")
        if source and trial:
            raise ConfigError("--from and --from-trial both give a config to start from: leave one out")
        if trial and not resumed:
            default = trial_config(config_class, trial)
        if resumed or source:
            if resumed:  # verified with the rest of its folder
                default, data_dir = load_config(config_class, run_dir)  # type: ignore[arg-type]
            else:
                tell = lambda line: print(line, file=sys.stderr)
                default, data_dir = load_config(config_class, source, _values(argv, "accept"), tell)  # type: ignore[arg-type]
        command = _tyro(choose_parts(default, rest), rest, data_dir, description)
        if resumed:
            changed = [p for p, v in flat(command.config) if dict(flat(default)).get(p, v) != v]
            if command.config != default and not _longer(default, command.config, changed, run_dir):
                raise ConfigError(
                    f"--resume continues the run as it was, but {', '.join(changed)} differs; "
                    f"for another run use --from {run_dir} and a new --run-dir"
                )
        validate(command.config)
        if command.init_optimizer != "fresh" and not command.init_from:
            raise ConfigError(f"--init-optimizer {command.init_optimizer} needs --init-from, the run to start from")
        if command.accept and not (source or "--resume" in look):
            raise ConfigError(f"--accept {' '.join(command.accept)} needs --resume or --from, whose record may differ")
        if command.threads is not None and not 1 <= command.threads <= 1024:
            raise ConfigError(f"--threads must be from 1 to 1024, got {command.threads}")
        return command
    except ConfigError as error:
        usage_error(str(error))
