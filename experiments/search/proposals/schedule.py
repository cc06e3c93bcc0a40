"""The order of a sweep: generations of trials, each decided by the results of the generations before it.

A schedule is a generator: it yields the trials of a generation and is sent their scores. It holds no state that
is not a function of the plan and those scores, so a sweep is resumed by running it again over the ledger.
"""

import dataclasses
import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from experiments.search.proposals.sampler import Sampler, Score
from experiments.search.space.domains import MOST_POINTS, SpaceError
from experiments.search.space.space import Values


@dataclasses.dataclass(frozen=True)
class SweepPlan:
    """How many points, seeds and folds, which metrics, and how budgets grow; all that decides the table.

    `halving` is none, sha (successive halving: a generation is a bracket, every rung keeps 1 / eta of it) or asha
    (Li et al. 2020, algorithm 2, with the promotions decided between generations). `budgets` are the values of
    `budget_field` from the first rung to the last.
    """

    trials: int
    sampler: str = "random"
    sweep_seed: int = 0
    seeds: int = 1
    folds: int = 0
    generation: int = 0
    minimize: tuple[str, ...] = ("loss",)
    maximize: tuple[str, ...] = ()
    halving: str = "none"
    budget_field: str = ""
    budgets: tuple[int, ...] = ()
    eta: int = 3

    def __post_init__(self) -> None:
        for name, least in (
            ("trials", 1),
            ("seeds", 1),
            ("folds", 0),
            ("generation", 0),
            ("eta", 2),
            ("sweep_seed", 0),
        ):
            value, most = getattr(self, name), 2**32 - 1 if name == "sweep_seed" else MOST_POINTS
            if not least <= value <= most:
                limit = f"at least {least}" if value < least else f"at most {most:,}"
                raise SpaceError(f"{name} must be {limit}, got {value}")
        if self.folds == 1:
            raise SpaceError("folds must be 0 (none) or at least 2, got 1")
        if self.halving != "none" and len(self.objectives) > 1:
            raise SpaceError("halving ranks by one number; give one metric")
        if self.halving == "sha" and (size := min(self.generation or self.trials, self.trials)) < self.bracket:
            budgets = ", ".join(map(str, self.budgets))
            raise SpaceError(
                f"{size} points at once reach none of the last of the budgets {budgets}: "
                f"that takes {self.bracket} (--trials, --generation), or a smaller last budget"
            )
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise SpaceError(f"metrics must be given and differ, got {', '.join(self.objectives) or 'none'}")

    @property
    def objectives(self) -> tuple[str, ...]:
        """The metrics that score a point, in order."""
        return (*self.minimize, *self.maximize)

    @property
    def bracket(self) -> int:
        """The fewest points of which successive halving trains one with the last budget: eta^(rungs - 1)."""
        return self.eta ** max(len(self.budgets) - 1, 0)

    def points_at_once(self, adaptive: bool) -> int:
        """Return how many points are proposed before any of them is scored."""
        if self.halving == "asha":
            return self.generation or 8
        return self.generation or (max(8, self.bracket) if adaptive else self.trials)

    def score(self, metrics: Mapping[str, float]) -> Score:
        """Return what is minimised; a maximised metric changes its sign."""
        score = (*(metrics[m] for m in self.minimize), *(-metrics[m] for m in self.maximize))
        return score if all(map(math.isfinite, score)) else None


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run: a point of the space at one rung (budget), seed and fold. `key` names its file in the ledger."""

    point: int
    rung: int
    seed: int
    fold: int
    generation: int = dataclasses.field(compare=False)
    values: Values = dataclasses.field(compare=False)
    budget: dict[str, Any] = dataclasses.field(compare=False, default_factory=dict)
    folds: int = dataclasses.field(compare=False, default=0)

    @property
    def key(self) -> str:
        """The trial's name, unique in a sweep and sorted as the table is."""
        return f"{self.point:05d}-r{self.rung}-s{self.seed}-f{self.fold}"

    def spec(self) -> dict[str, Any]:
        """Return the trial as plain JSON values."""
        return dataclasses.asdict(self)


Schedule = Generator[list[Trial], list[Score], None]


def _copies(plan: SweepPlan, point: int, rung: int, generation: int, values: Values) -> list[Trial]:
    """Return the runs of a point: every seed on every fold."""
    budget = {plan.budget_field: plan.budgets[rung]} if plan.budgets else {}
    return [
        Trial(point, rung, seed, fold, generation, values, budget, plan.folds)
        for seed in range(plan.seeds)
        for fold in range(max(plan.folds, 1))
    ]


def schedule(plan: SweepPlan, sampler: Sampler) -> Schedule:
    """Yield the generations of a plan. What is sent back are the scores of the generation's runs, in its order."""
    size = plan.points_at_once(sampler.adaptive)
    return _asha(plan, sampler, size) if plan.halving == "asha" else _brackets(plan, sampler, size)


def _mean_scores(plan: SweepPlan, scores: Sequence[Score]) -> list[Score]:
    """Return one score per point: the mean over its seeds and folds, None if one of them failed."""
    n = plan.seeds * max(plan.folds, 1)
    groups = [scores[i : i + n] for i in range(0, len(scores), n)]
    return [
        None if None in group else tuple(math.fsum(c) / n for c in zip(*group, strict=True))  # type: ignore[arg-type]
        for group in groups
    ]


def _best_first(points: Sequence[int], scores: Mapping[int, Score]) -> list[int]:
    """Return points by score, the lower index first among equals; failed points are left out."""
    good = [p for p in points if scores[p] is not None]
    return sorted(good, key=lambda p: (scores[p], p))


def _brackets(plan: SweepPlan, sampler: Sampler, size: int) -> Schedule:
    """Run each generation of points to the end: one rung without halving, else successive halving.

    Rung i trains floor(n / eta^i) of n points, the best of the rung below (Jamieson & Talwalkar 2016, figure 1; Li et
    al. 2020, algorithm 1).
    """
    generation = 0
    for first in range(0, plan.trials, size):
        values = sampler.propose(first, min(size, plan.trials - first))
        alive = list(range(first, first + len(values)))
        scores: dict[int, Score] = {}
        for rung in range(max(len(plan.budgets), 1)):
            runs = [t for p in alive for t in _copies(plan, p, rung, generation, values[p - first])]
            if not runs:
                break
            scores |= zip(alive, _mean_scores(plan, (yield runs)), strict=True)
            generation += 1
            alive = sorted(_best_first(alive, scores)[: len(values) // plan.eta ** (rung + 1)])
        sampler.observe(first, [scores[first + i] for i in range(len(values))])
        if len(values) < min(size, plan.trials - first):
            return


def _asha(plan: SweepPlan, sampler: Sampler, size: int) -> Schedule:
    """Fill each generation with promotions, highest rung first, then with new points."""
    rungs: list[dict[int, Score]] = [{} for _ in plan.budgets]
    promoted: list[set[int]] = [set() for _ in plan.budgets]
    values: list[Values] = []
    generation = 0
    while True:
        jobs = []
        for rung in range(len(rungs) - 2, -1, -1):
            best = _best_first(list(rungs[rung]), rungs[rung])[: len(rungs[rung]) // plan.eta]
            jobs += [(p, rung + 1) for p in best if p not in promoted[rung]]
        jobs = jobs[:size]
        for p, rung in jobs:
            promoted[rung - 1].add(p)
        room = min(size - len(jobs), plan.trials - len(values))
        fresh = sampler.propose(len(values), room) if room > 0 else []
        jobs += [(len(values) + i, 0) for i in range(len(fresh))]
        values += fresh
        if not jobs:
            return
        scores = yield [t for p, r in jobs for t in _copies(plan, p, r, generation, values[p])]
        for (p, rung), score in zip(jobs, _mean_scores(plan, scores), strict=True):
            rungs[rung][p] = score
        if fresh:
            sampler.observe(len(values) - len(fresh), [rungs[0][p] for p, r in jobs if r == 0])
        generation += 1


def budgets_of(low: int, high: int, eta: int) -> tuple[int, ...]:
    """Return low, low eta, low eta^2, ..., the last at most high (Li et al. 2020, algorithm 1: R is never exceeded).

    Raises SpaceError where that is a single budget.
    """
    rungs = [low]
    while 1 <= low and rungs[-1] * eta <= high:
        rungs.append(rungs[-1] * eta)
    if len(rungs) < 2:
        raise SpaceError(f"halving needs a first budget >= 1, a last one of eta ({eta}) times that, got {low}:{high}")
    return tuple(rungs)
