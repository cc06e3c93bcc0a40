"""Hyperparameter sweeps: a space over any config field, a sampler, a ledger of trials, an engine that runs them.

`python -m experiments.search --lr 1e-4:1e-2:log --objective.beta 0.5:8 --model.latent 2,8,32 --trials 64`

The names below are imported when they are asked for: the command starts its first worker before it imports JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.search.problem import Problem, load_problem
    from experiments.search.proposals.schedule import Plan, Trial
    from experiments.search.record.ledger import Ledger, LedgerError
    from experiments.search.space.domains import Choice, Range, SpaceError
    from experiments.search.space.space import Space, parse_space
    from experiments.search.sweep import run_sweep

_HOMES = {
    "space.domains": ("Choice", "Range", "SpaceError"),
    "record.ledger": ("Ledger", "LedgerError"),
    "problem": ("Problem", "load_problem"),
    "proposals.schedule": ("Plan", "Trial"),
    "space.space": ("Space", "parse_space"),
    "sweep": ("run_sweep",),
}

__all__ = [
    "Choice",
    "Ledger",
    "LedgerError",
    "Plan",
    "Problem",
    "Range",
    "Space",
    "SpaceError",
    "Trial",
    "load_problem",
    "parse_space",
    "run_sweep",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
