"""What a sweep searches over and how one group of its trials is run."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from experiments.running.named import UsageError, UserFunctionError, load
from experiments.search.space.domains import SpaceError

DEFAULT = "experiments.search.training:problem"
MEASURED = {"geometry": "experiments.search.training:with_geometry"}  # the same, with the numbers of a metric
Fold = tuple[int, int]  # which fold is held out, of how many
RunGroup = Callable[[Sequence[Any], Fold | None, int], Iterable[Mapping[str, Any]]]


def accept(space: Any, data_dir: str | None) -> None:
    """Find nothing wrong with a space."""


@dataclasses.dataclass(frozen=True)
class SweepProblem:
    """A default config and the function that runs configs of equal structure in one program.

    `run_group(configs, fold, width)` returns, or yields as they end, one dict of numbers (finite or not) per config,
    in order; a key "reason" (str) marks a run that diverged. `width` is the most configs that a group of this sweep
    holds. After an exception the configs without a result are run one by one, so that a single bad one names itself.
    `metric` is minimised when the user names none. `check(space, data_dir)` raises ConfigError for a space of which no
    trial could run, before anything is written.
    """

    config: Any
    run_group: RunGroup
    metric: str = "loss"
    check: Callable[[Any, str | None], None] = accept


def load_problem(name: str) -> SweepProblem:
    """Return the problem that `module:name` names; workers load it by the same name.

    Raises SpaceError when there is none.
    """
    try:
        found = load(name)
    except (UsageError, UserFunctionError) as error:
        raise SpaceError(f"no problem {name!r}: {error}") from None
    if not isinstance(found, SweepProblem):
        raise SpaceError(f"{name!r} is a {type(found).__name__}, not a SweepProblem")
    return found
