"""The command line of a sweep: its own options, and any config field with its domain."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any, NoReturn

from experiments.running.listed import listed, options_of
from experiments.search.problem import DEFAULT, SweepProblem, load_problem, named
from experiments.search.proposals.choice import make_sampler
from experiments.search.proposals.designs import Grid
from experiments.search.proposals.sampler import Sampler
from experiments.search.proposals.schedule import SweepPlan, budgets_of
from experiments.search.space.domains import MOST_POINTS, Range, SpaceError
from experiments.search.space.space import Space, all_fields, owners, parse_domain, parse_space, read_space_file
from experiments.search.sweep import check_seeds
from experiments.search.workers.affinity import default_workers
from experiments.search.workers.choice import ENGINES, check_engine
from models.config import flat, nearest

EPILOG = """\
Every other option is a field of the config and what it may be:
  --lr 1e-4:1e-2:log            a range, uniform in the logarithm      --lr 1e-4:1e-2:log:5   5 points of it in a grid
  --objective.beta 0.5:8        a range, uniform                       --epochs 5             one value: fixed
  --model.latent 2,8,32         a list                                 --objective elbo,reconstruction   parts
  --model.encoder.hidden [400],[400,200]                               a list of tuples
--fields prints all fields with their defaults.

--halving trains every point with the budget LOW, and the best 1 of ETA of a rung with ETA times its budget, while that
is at most HIGH. It trains a promoted point again from its first step: so every row of the table is a whole run, equal
to `train.py` with those settings, also where a schedule depends on the number of epochs. Going on from the smaller run
would save less than 1/ETA of the work (25% of the 108 epochs of 27 trials at epochs:1:27)."""


MOST_WORKERS, LONGEST_LEASE = 4096, 1e6


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SpaceError(message)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the sweep's own options."""
    p = _Parser(
        prog="python -m experiments.search",
        description="Search hyperparameters: sampled configs, trained in groups that share a program, "
        "recorded one file per trial.",
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = p.add_argument
    add("--trials", type=int, help="points of the space to try; a grid tries all when absent")
    add(
        "--sampler",
        default="random",
        help="grid, random (default), sobol; with [search]: tpe, "
        "cmaes, nsgaii, nsgaiii, qmc, gp (which needs torch), optuna:<class>",
    )
    add("--sweep-seed", type=int, default=0, metavar="N", help="seed of the sampler (default 0)")
    add("--seeds", type=int, default=1, metavar="N", help="runs per point; seeds are common to all points")
    add("--folds", type=int, default=0, metavar="K", help="K-fold cross-validation on the training data")
    add("--generation", type=int, default=0, metavar="N", help="points proposed at once (default: 8 if adaptive)")
    add("--minimize", metavar="M[,M]", help="metrics to minimise; two or more make a front")
    add("--maximize", metavar="M[,M]", help="metrics to maximise")
    options_of(add, "every trial's")
    add("--halving", metavar="FIELD:LOW:HIGH", help="successive halving over an int field, as epochs:1:27")
    add("--asha", action="store_true", help="with --halving: promote as results come in, not bracket by bracket")
    add("--eta", type=int, default=3, help="halving keeps 1 of ETA and multiplies the budget by it (default 3)")
    add("--space", metavar="FILE", help="a .toml or .json file of fields and domains; the command line overrides it")
    add("--engine", choices=ENGINES, default="local", help="worker processes here (default), or Ray")
    add("--workers", type=int, metavar="N", help="worker processes (default: one per core; 1 with an accelerator)")
    add("--group", type=int, default=8, metavar="N", help="most trials in one program (default 8)")
    add("--out", default="runs/search", metavar="DIR", help="folder of the ledger and results (default runs/search)")
    add("--resume", action="store_true", help="go on with the sweep in --out: finish what is missing, repeat nothing")
    add("--data-dir", metavar="DIR", help="folder of data files, one subfolder per set (default: the usual places)")
    add("--lease-seconds", type=float, default=60.0, metavar="S", help="silence after which a trial is taken over (60)")
    add("--problem", default=DEFAULT, help=argparse.SUPPRESS)
    add("--fields", action="store_true", help="print the fields that can be searched, and exit")
    return p


@dataclasses.dataclass(frozen=True)
class Job:
    """A parsed command line."""

    words: Sequence[str]
    options: argparse.Namespace
    problem: SweepProblem
    texts: dict[str, Any]
    space: Space
    plan: SweepPlan
    sampler: Sampler


def field_texts(rest: Sequence[str]) -> dict[str, str]:
    """Return {field: text} of the remaining words: --field text or --field=text. Raises SpaceError otherwise."""
    texts: dict[str, str] = {}
    words = iter(rest)
    for word in words:
        if not word.startswith("--"):
            raise SpaceError(f"unexpected word {word!r}: fields are given as --field value")
        name, equals, text = word[2:].partition("=")
        name = name.replace("-", "_")
        if not equals:
            text = next(words, "--")
            if text.startswith("--"):
                raise SpaceError(f"--{name} has no value; as in --{name} 1e-4:1e-2:log or --{name} 2,8,32")
        if name in texts:
            raise SpaceError(f"--{name} is given twice")
        texts[name] = text
    return texts


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(w.strip() for w in text.split(",") if w.strip()) if text else ()


def _plan(o: argparse.Namespace, problem: SweepProblem, points: int | None) -> SweepPlan:
    """Return the plan of the options. Raises SpaceError when a number or a combination is not possible."""
    trials = o.trials if o.trials is not None else points
    if trials is None:
        raise SpaceError(f"--trials is needed: the sampler {o.sampler!r} has no end of its own")
    minimize, maximize = _names(o.minimize), _names(o.maximize)
    if not (minimize or maximize):
        minimize = (problem.metric,)
    field, budgets = "", tuple[int, ...]()
    if o.halving:
        words = o.halving.split(":")
        if len(words) != 3:
            raise SpaceError(f"--halving {o.halving!r} is not FIELD:LOW:HIGH, as in epochs:1:27")
        field = words[0]
        if not any(c.__hints__[n] is int for c, n in owners(type(problem.config), field)):  # type: ignore[attr-defined]
            near = ", ".join(nearest(field, all_fields(type(problem.config))))
            raise SpaceError(f"--halving needs an int field, and {field!r} is none; the nearest fields: {near}")
        if o.eta < 2:
            raise SpaceError(f"eta must be at least 2, got {o.eta}")
        ends = parse_domain(type(problem.config), field, f"{words[1]}:{words[2]}")
        if not isinstance(ends, Range):
            raise SpaceError(f"--halving {o.halving!r} is not FIELD:LOW:HIGH, as in epochs:1:27")
        budgets = budgets_of(int(ends.low), int(ends.high), o.eta)
    elif o.asha:
        raise SpaceError("--asha needs --halving FIELD:LOW:HIGH")
    halving = ("asha" if o.asha else "sha") if budgets else "none"
    halves: dict[str, Any] = {"halving": halving, "budget_field": field, "budgets": budgets, "eta": o.eta}
    return SweepPlan(trials, o.sampler, o.sweep_seed, o.seeds, o.folds, o.generation, minimize, maximize, **halves)


def parse(words: Sequence[str]) -> Job:
    """Return the sweep that a command line describes. Raises SpaceError, one line, when it is not possible."""
    options, rest = parser().parse_known_args(words)
    options.problem = named(options.problem, listed(options))
    problem = load_problem(options.problem)
    if options.fields:
        _print_fields(problem.config)
        raise SystemExit(0)
    for name, most in (("workers", MOST_WORKERS), ("group", MOST_POINTS)):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= most:
            raise SpaceError(f"--{name} must be from 1 to {most:,}, got {value}")
    if not 0 < options.lease_seconds <= LONGEST_LEASE:
        raise SpaceError(f"--lease-seconds must be above 0 and at most 1e6, got {options.lease_seconds:g}")
    check_engine(options.engine)
    options.workers = options.workers or default_workers()
    texts = {**(read_space_file(options.space) if options.space else {}), **field_texts(rest)}
    space = parse_space(problem.config, texts)
    problem.check(space, options.data_dir)
    points = len(Grid(space).points) if options.sampler == "grid" else None
    plan = _plan(options, problem, points)
    check_seeds(plan, problem.config, texts)
    sampler = make_sampler(plan.sampler, space, plan.sweep_seed, len(plan.objectives), plan.generation or 8)
    return Job(words, options, problem, texts, space, plan, sampler)


def _print_fields(config: Any) -> None:
    defaults = dict(flat(config))
    for path in dict.fromkeys(all_fields(type(config))):
        print(f"{path:40} {defaults.get(path, '(of another part)')}")
