"""Metrics of the list (`models.metrics.registry`) as numbers of every run of a table or a sweep.

They work on the host, so the program of a run only hands over its model. What is measured is what
`python -m experiments.evaluate` says of the same run: the same examples, keys and seed.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Key

import train
from models.autoencoder import Autoencoder
from models.metrics import Subject, registry
from training.cli.numbers import check_numbers
from training.evaluate import trained_model
from training.examples import Examples
from training.inputs import Inputs
from training.trained.measured import shown

ERROR = "_standard_error"


def options_of(add: Callable[..., Any], whose: str) -> None:
    """Add the options of a command line that name metrics."""
    known = ", ".join(registry.BY_NAME)
    about = f"measure these of {whose} test examples as well, by the names of experiments.evaluate: {known}"
    add("--metrics", nargs="+", metavar="NAME", help=about)
    add("--metrics-limit", type=int, default=0, metavar="N", help="of the first so many of them (default: all)")
    add("--metrics-samples", type=int, default=5000, metavar="N", help="draws for each in log_likelihood (5000)")


def listed(options: Any) -> tuple["Listed", ...]:
    """Return the measures that such options ask for. Raises ConfigError for what there is not."""
    check_numbers(options, {"metrics_limit": 0, "metrics_samples": 1})
    if not options.metrics:
        return ()
    names = tuple(metric.name for metric in registry.chosen(options.metrics))
    return (Listed(names, options.metrics_limit, options.metrics_samples),)


class Listed(NamedTuple):
    """Metrics by name; an `experiments.running.measures` measure."""

    names: tuple[str, ...]
    limit: int = 0
    """judge on the first so many test examples (0: all)"""
    samples: int = 5000
    """draws for each example of log_likelihood"""

    def __call__(self, config: Any, model: Autoencoder, examples: Examples, key: Key[Array, ""]) -> dict[str, Any]:
        """Return the arrays of the model."""
        return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(model))}

    def finish(self, leaves: Mapping[str, Any], config: Any, inputs: Inputs, taken: Collection[str]) -> dict[str, Any]:
        """Return {"numbers", "units", "not_measured"} of the model with these arrays.

        numbers: every metric's, with `NAME_standard_error` where there is one; those that are lists are left out.
        A number that is called as one of `taken`, the run's own, has its metric's name in front. not_measured: why,
        by metric (or by number, where one is not finite).
        """
        subject = self.subject(leaves, config, inputs)
        with jax.default_matmul_precision(config.matmul_precision):
            found, reasons = registry.measure(subject, self.names)
        numbers: dict[str, float] = {}
        units: dict[str, str] = {}
        for metric, measured in found.items():
            for name, m in measured.items():
                column = f"{metric}_{name}" if name in taken or name in numbers else name
                if isinstance(m.value, list):
                    continue
                if not math.isfinite(m.value):
                    reasons[column] = f"it is {m.value}"
                    continue
                numbers[column], units[column] = float(m.value), m.unit
                if isinstance(m.error, float) and math.isfinite(m.error):
                    numbers[column + ERROR] = m.error
        return {"numbers": numbers, "units": units, "not_measured": reasons}

    def subject(self, leaves: Mapping[str, Any], config: Any, inputs: Inputs) -> Subject:
        """Return what is judged: the model of these arrays on the test split, all training examples beside it."""
        blank = lambda c: trained_model(c, train.init(c, jax.random.key(0), inputs.splits["train"]))
        structure = jax.tree.structure(jax.eval_shape(blank, config))
        model = jax.tree.unflatten(structure, [leaves[str(i)] for i in range(len(leaves))])
        seen, test = (shown(inputs.splits, inputs.dataset, part, config.binarise) for part in ("train", "test"))
        test = jax.tree.map(lambda a: a[: self.limit], test) if self.limit else test
        names = inputs.dataset.factor_names
        matched = any(getattr(term, "matches_prior", False) for term in config.terms)
        return Subject(
            model, test, seen, 0, names, samples=self.samples, ratings=inputs.dataset.ratings, matched=matched
        )


def finished(
    measures: tuple[Any, ...], arrays: Mapping[str, Any], config: Any, inputs: Inputs, taken: Collection[str]
) -> dict[str, Any]:
    """Return what measures make on the host of the arrays, by position, that they left in a program: as `finish`."""
    out: dict[str, Any] = {"numbers": {}, "units": {}, "not_measured": {}}
    for position, leaves in arrays.items():
        found = measures[int(position)].finish(leaves, config, inputs, {*taken, *out["numbers"]})
        for part in out:
            out[part] |= found[part]
    return out


def columns_of(measures: tuple[Any, ...], units: Mapping[str, str]) -> list[str]:
    """Return which of the measured numbers a table shows: those that their metrics name, else all."""
    wanted = [registry.BY_NAME[name] for measure in measures for name in measure.names]
    few = {column for metric in wanted for column in metric.shown}
    return [c for c in units if c in few or not few] if wanted else []


def lines_of(units: Mapping[str, str], not_measured: Mapping[str, Collection[str]]) -> list[str]:
    """Return lines that say in what unit numbers are whose names do not, and what was not measured: {why: where}."""
    said = [f"{name}: {unit}" for name, unit in units.items() if unit and not name.endswith(unit.replace(" ", "_"))]
    lines = [f"units: {', '.join(said)}"] if said else []
    return lines + [f"not measured: {why} ({', '.join(where)})" for why, where in not_measured.items()]
