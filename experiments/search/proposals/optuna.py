"""Optuna's samplers. Optuna only proposes: the study lives in memory and is rebuilt by replay on resume.

The record of a sweep is the ledger. On resume the generations are asked for again in the same order and told the
recorded scores, which leaves the study, and so every later proposal, as it was.
"""

import json
import math
import warnings
from collections.abc import Sequence
from typing import Any

from experiments.search.proposals.sampler import Sampler, Score
from experiments.search.space.domains import Choice, Domain, SpaceError
from experiments.search.space.space import Space, Values

NAMES = {
    "tpe": "TPESampler",
    "cmaes": "CmaEsSampler",
    "gp": "GPSampler",
    "nsgaii": "NSGAIISampler",
    "nsgaiii": "NSGAIIISampler",
    "qmc": "QMCSampler",
}
REHEARSED = 12  # most of Optuna's samplers draw their first ten points at random
INSTALL = "pip install -e '.[search]'"


def _options(class_name: str, generation: int) -> dict[str, Any]:
    """Return the options that fit points which are asked for a generation at a time."""
    if class_name == "TPESampler":
        return {"constant_liar": True}  # keeps the points of a generation apart: none of them has a score yet
    return {"population_size": max(generation, 2)} if class_name.startswith("NSGA") else {}


class Optuna(Sampler):
    """A sampler of Optuna by its short name, or any class of `optuna.samplers` as `optuna:<class name>`."""

    adaptive = True

    def __init__(self, name: str, space: Space, seed: int, objectives: int = 1, generation: int = 8) -> None:
        try:
            import optuna
        except ImportError:
            raise SpaceError(f"the sampler {name!r} needs Optuna: {INSTALL}") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        class_name = NAMES.get(name, name.removeprefix("optuna:"))
        maker = getattr(optuna.samplers, class_name, None)
        if maker is None:
            known = ", ".join(n for n in dir(optuna.samplers) if n.endswith("Sampler") and n != "BaseSampler")
            raise SpaceError(f"Optuna has no sampler {class_name!r}; it has {known}")
        self.optuna, self.space = optuna, space
        self.distributions = {n: self._distribution(d) for n, d in space.domains}
        self.asked: list[Any] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna marks most of its samplers experimental
            make = lambda: optuna.create_study(
                directions=["minimize"] * objectives, sampler=maker(seed=seed, **_options(class_name, generation))
            )
            try:
                self._rehearse(make(), objectives)
                self.study = make()
            except ImportError as error:
                how = f": pip install {error.name}" if error.name else f": {str(error).splitlines()[0]}"
                raise SpaceError(f"the sampler {name!r} needs a further package{how}") from None
            except TypeError as error:
                raise SpaceError(f"the sampler {name!r} cannot be made from a seed alone: {error}") from None
            except ValueError as error:
                raise SpaceError(f"the sampler {name!r} cannot search this: {str(error).splitlines()[0]}") from None

    def _rehearse(self, study: Any, objectives: int) -> None:
        """Ask for a few points and forget them: what a sampler lacks shows before anything is written."""
        for i in range(REHEARSED):
            study.tell(study.ask(self.distributions), [float(i)] * objectives)

    def _distribution(self, domain: Domain) -> Any:
        kinds = self.optuna.distributions
        if isinstance(domain, Choice):  # Optuna's choices are scalars: tuples travel as JSON
            return kinds.CategoricalDistribution([json.dumps(v) for v in domain.values])
        if domain.integer:
            return kinds.IntDistribution(int(domain.low), int(domain.high), log=domain.log)
        return kinds.FloatDistribution(domain.low, domain.high, log=domain.log)

    def propose(self, first: int, count: int) -> list[Values]:
        """Ask for `count` points; they must follow those already asked for."""
        if first != len(self.asked):
            raise ValueError(f"points must be asked for in order: expected {len(self.asked)}, got {first}")
        return [self._ask() for _ in range(count)]

    def _ask(self) -> Values:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self.study.ask(self.distributions)
        self.asked.append(trial)
        return self.space.active({name: self._value(d, trial.params[name]) for name, d in self.space.domains})

    def _value(self, domain: Domain, drawn: Any) -> Any:
        if isinstance(domain, Choice):
            value = json.loads(drawn)
            return tuple(value) if isinstance(value, list) else value
        if domain.integer:
            return int(drawn)
        return min(max(float(f"{drawn:.6g}"), domain.low), domain.high)

    def observe(self, first: int, scores: Sequence[Score]) -> None:
        """Tell the scores; a failed point counts as the worst one seen, so that its neighbourhood is avoided."""
        known = [t.values for t in self.study.get_trials(deepcopy=False) if t.values]
        known += [s for s in scores if s is not None]
        worst = [max(column) for column in zip(*known, strict=True)] if known else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for trial, score in zip(self.asked[first:], scores, strict=False):
                values = worst if score is None or not all(map(math.isfinite, score)) else list(score)
                if values is None:
                    self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
                else:
                    self.study.tell(trial, values)
