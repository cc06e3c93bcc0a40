"""Hyperparameter sweeps: a space over any config field, a sampler, a ledger of trials, an engine that runs them.

`python -m experiments.search --lr 1e-4:1e-2:log --objective.beta 0.5:8 --model.latent 2,8,32 --trials 64`
"""

from experiments.search.domains import Choice, Range, SpaceError
from experiments.search.ledger import Ledger, LedgerError
from experiments.search.problem import Problem, load_problem
from experiments.search.schedule import Plan, Trial
from experiments.search.space import Space, parse_space
from experiments.search.sweep import run_sweep

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
