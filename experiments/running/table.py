"""What a table is made of: rows of configs, profiles that change them, what is compared with what."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from models.config import replace_at, validate
from train import Config


class Pca(NamedTuple):
    """A baseline row: principal components of a data set's training split, in closed form."""

    dataset: str
    dims: int


class Known(NamedTuple):
    """Labels that a row keeps: so many, the first of every class in equal numbers; all others are hidden (-1)."""

    labels: int
    copies: int = 1
    """how often the examples that keep theirs stand among the training examples, so that every batch has some"""
    only: bool = False
    """train on nothing but these"""


class Row(NamedTuple):
    """A row: what runs, the paper's number, and what ours should reach (a number, or the name of a row)."""

    run: Config | Pca
    paper: float | None = None
    bound: float | str | None = None
    examples: int | None = None
    """train on the first so many examples (None: all)"""
    differs: str = ""
    """what keeps its number from being compared with the paper's; empty: nothing but what its profile says"""
    known: Known | None = None
    """labels that training sees (None: all)"""
    measures: tuple[Any, ...] = ()
    """what is measured on the test split beside the metrics of every run, see `experiments.running.measures`"""

    @property
    def facts(self) -> list[Any]:
        """What identifies a run beside its config."""
        return [self.examples, self.known and list(self.known), [str(measure) for measure in self.measures]]


class Profile(NamedTuple):
    """One protocol of a table."""

    seeds: int
    change: Mapping[str, Any] | Callable[[str, Row], Row] = {}  # noqa: RUF012 - a constant
    """fields set in every config (dotted path to value), or a function of a row's name and the row"""
    only: tuple[str, ...] = ()
    """the rows to run (none named: all)"""
    differs: str = ""
    """why its numbers are not to be compared with the paper's; empty: they are"""


class Table(NamedTuple):
    """All that makes a table; its words come from the docstring of its file."""

    rows: Mapping[str, Row]
    profiles: Mapping[str, Profile]
    metric: str
    """what is compared, less is better: a test metric, squared_error (summed over pixels) or gap (test - seen)"""
    columns: tuple[str, ...] = ()
    """further metrics to show"""
    figures: tuple[str, ...] = ("intervals",)
    """names of functions in `experiments.reporting.plots`"""
    seen: bool = False
    """measure training examples as test ones too"""


def rows_of(table: Table, profile: Profile) -> dict[str, Row]:
    """Return the rows as a profile runs them. Raises ConfigError for a bad config."""
    out = {}
    for name, row in table.rows.items():
        if profile.only and name not in profile.only:
            continue
        row = profile.change(name, row) if callable(profile.change) else changed(row, profile.change)
        if isinstance(row.run, Config):
            validate(row.run)
        out[name] = row
    return out


def changed(row: Row, fields: Mapping[str, Any]) -> Row:
    """Return a row with fields of its config replaced, by dotted path; of a baseline only its data set changes."""
    run = row.run
    if isinstance(run, Pca):
        return row._replace(run=run._replace(dataset=fields.get("dataset", run.dataset)))
    for path, value in fields.items():
        run = replace_at(run, path, value)
    return row._replace(run=run)
