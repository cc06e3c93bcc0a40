"""What a sweep searches over and how one group of its trials is run."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from experiments.running.listed import Listed
from experiments.running.named import UsageError, UserFunctionError, load
from experiments.search.space.domains import SpaceError

DEFAULT = "experiments.search.training:problem"
Fold = tuple[int, int]  # which fold is held out, of how many
RunGroup = Callable[[Sequence[Any], Fold | None, int], Iterable[Mapping[str, Any]]]


def accept(space: Any, data_dir: str | None) -> None:
    """Find nothing wrong with a space."""


@dataclasses.dataclass(frozen=True)
class SweepProblem:
    """A default config and the function that runs configs of equal structure in one program.

    `run_group(configs, fold, width)` returns, or yields as they end, one dict of numbers (finite or not) per config,
    in order; a key "reason" (str) marks a run that diverged, "units" and "not_measured" are dicts that say in what its
    numbers are and why others are missing. `width` is the most configs that a group of this sweep
    holds. After an exception the configs without a result are run one by one, so that a single bad one names itself.
    `metric` is minimised when the user names none. `check(space, data_dir)` raises ConfigError for a space of which no
    trial could run, before anything is written.
    """

    config: Any
    run_group: RunGroup
    metric: str = "loss"
    check: Callable[[Any, str | None], None] = accept
    measuring: Callable[[Any], "SweepProblem"] | None = None
    """the same problem, with measures (`experiments.running.listed`) of every trial"""


def load_problem(name: str) -> SweepProblem:
    """Return the problem that `module:name` names; workers load it by the same name.

    `module:name?metrics=A,B&limit=N&samples=N` is the problem with these metrics (see `named`). Raises SpaceError when
    there is none.
    """
    name, _, more = name.partition("?")
    try:
        found = load(name)
    except (UsageError, UserFunctionError) as error:
        raise SpaceError(f"no problem {name!r}: {error}") from None
    if not isinstance(found, SweepProblem):
        raise SpaceError(f"{name!r} is a {type(found).__name__}, not a SweepProblem")
    if not more:
        return found
    if found.measuring is None:
        raise SpaceError(f"--metrics: the problem {name} measures what it returns, and nothing more")
    wanted = dict(parse_qsl(more))
    measure = Listed(tuple(wanted["metrics"].split(",")), int(wanted["limit"]), int(wanted["samples"]))
    return found.measuring((measure,))


def named(problem: str, measures: tuple[Listed, ...]) -> str:
    """Return the name of a problem with measures: what `load_problem` takes."""
    if not measures:
        return problem
    names, limit, samples = measures[0]
    return f"{problem}?{urlencode({'metrics': ','.join(names), 'limit': limit, 'samples': samples})}"
