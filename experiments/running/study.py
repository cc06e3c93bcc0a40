"""Studies: tables whose rows are computed on the host, by functions; where a table's rows are configs in one program.

    row(protocol, seed, data) -> {name_unit: number or array}

Numbers are the row's metrics, one per seed; arrays (of any shape, small) go to the figures alone. A study's file
defines `STUDY` where a table's defines `TABLE`; command line, profiles, resumption, intervals and pages are the same.
"""

import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import train
from experiments.running import group, store
from experiments.running.claims import Claim, claims_of
from experiments.running.table import Profile
from models.config import ConfigError

Arrays = dict[str, dict[str, list[np.ndarray]]]
"""{row: {name: an array per seed}}"""


class Data(NamedTuple):
    """What a row is computed from: {split: Examples} and the data set; ({}, None) for a study that makes its own."""

    splits: Mapping[str, Any]
    dataset: Any
    folder: str | None = None
    """what --data-dir says"""

    def x(self, split: str, n: int | None = None) -> np.ndarray:
        """Return the first n examples of a split as a model sees them, flat: (n, values) float32 (None: all)."""
        examples = self.splits[split]
        rows = jnp.arange(len(examples) if n is None else min(n, len(examples)))
        return np.asarray(examples.take(rows), np.float32).reshape(len(rows), -1)

    def y(self, split: str, n: int | None = None) -> np.ndarray:
        """Return the labels of the same examples, (n,). Raises ConfigError where the data have none."""
        found = self.dataset.splits[split].y
        if found is None:
            raise ConfigError(f"{self.dataset.name} has no labels")
        return np.asarray(found)[:n]


class Case(NamedTuple):
    """A row of a study: its function, the paper's number of the study's metric, and a bound as in `table.Row`."""

    of: Callable[[Any, int, Data], Mapping[str, Any]]
    paper: float | None = None
    bound: float | str | None = None
    differs: str = ""
    exact: bool = False
    """no seed changes it: computed once"""
    needs: str = ""
    """the extra without whose library the row is left out, which is said"""


class Study(NamedTuple):
    """All that makes a study; its words come from the docstring of its file."""

    rows: Mapping[str, Case]
    protocol: Any
    """a NamedTuple of plain values, which profiles change by field name; its `dataset`, if it has one, is loaded"""
    profiles: Mapping[str, Profile]
    metric: str
    """what is shown first and compared, less is better"""
    columns: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    figures: tuple[Any, ...] = ("intervals",)
    """names in `experiments.reporting.plots`, or functions (path, record, arrays) -> whether something was drawn"""
    sources: Callable[[Data], Mapping[str, Any]] | None = None
    """{set: {"sha256": {file: digest}}} of what the rows read themselves, beside the protocol's dataset"""


def rows_of(study: Study, profile: Profile) -> dict[str, Case]:
    """Return the rows that a profile runs, but those that need a library that is not installed."""
    absent = left_out(study, profile)
    return {name: case for name, case in asked(study, profile).items() if name not in absent}


def asked(study: Study, profile: Profile) -> dict[str, Case]:
    """Return the rows that a profile names, all where it names none."""
    return {name: case for name, case in study.rows.items() if not profile.only or name in profile.only}


def left_out(study: Study, profile: Profile) -> dict[str, str]:
    """Return, of a profile's rows that need a library that is not installed, why they do not run."""
    needs = {name: case.needs for name, case in asked(study, profile).items() if case.needs}
    absent = {name: extra for name, extra in needs.items() if find_spec(MODULES[extra]) is None}
    return {name: f"needs {MODULES[extra]}: pip install -e .[{extra}]" for name, extra in absent.items()}


MODULES = {"umap": "umap", "images": "skimage", "compression": "constriction"}
"""{extra: its module}"""


def protocol_of(study: Study, profile: Profile) -> Any:
    """Return the study's protocol as a profile has it. Raises ConfigError for a field that it does not have."""
    change = {} if callable(profile.change) else dict(profile.change)
    unknown = set(change) - set(study.protocol._fields)
    if callable(profile.change) or unknown:
        raise ConfigError(f"a study's profile changes fields of its protocol, not {sorted(unknown) or 'rows'}")
    return study.protocol._replace(**change)


def data_of(protocol: Any, data_dir: str | None) -> Data:
    """Return the data that a protocol names, binarised as its field `binarise` says. Raises data.DataError."""
    name = getattr(protocol, "dataset", "")
    binarise: Any = getattr(protocol, "binarise", "none")
    if not name:
        return Data({}, None, data_dir)
    splits, dataset = group.data_of(train.Config(dataset=name, binarise=binarise, batch_size=1), data_dir)
    return Data(splits, dataset, data_dir)


def run_study(
    study: Study,
    name: str,
    profile: str,
    seeds: int | None = None,
    data_dir: str | None = None,
    folder: Path = store.RESULTS,
    own: str = "",
) -> tuple[dict[str, Any], Arrays]:
    """Run what is missing of a study; return its record (JSON-ready, as a table's) and the arrays of its rows.

    own: the study's file, by path from the root: its code is part of what identifies a finished row.
    Raises ConfigError, data.DataError, training.RunError.
    """
    chosen = study.profiles[profile]
    rows, protocol, seeds = rows_of(study, chosen), protocol_of(study, chosen), seeds or chosen.seeds
    absent = left_out(study, chosen)
    for row, why in absent.items():
        print(f"{row} is left out: it {why}", file=sys.stderr, flush=True)
    data = data_of(protocol, data_dir)
    parts = (*store.TABLES, *([own] if own else []))
    finished = store.Finished(folder / ".partial" / f"{name}-{profile}", parts)
    own_data = dict(study.sources(data)) if study.sources else {}
    facts = [list(protocol), data.dataset and data.dataset.sha256, *([own_data] if own_data else [])]
    jobs = [(row, seed) for seed in range(seeds) for row in rows if seed == 0 or not rows[row].exact]
    found: dict[str, list[dict[str, Any]]] = {row: [] for row in rows}
    for done, (row, seed) in enumerate(jobs, 1):
        result = finished.get([row, seed, *facts])
        resumed = result is not None
        if result is None:
            begin = time.perf_counter()
            result = parted(rows[row].of(protocol, seed, data), row)
            result["seconds"] = time.perf_counter() - begin
            finished.put([row, seed, *facts], result)
        found[row].append(result)
        announce(study.metric, row, seed, result, resumed, f"[{done}/{len(jobs)}]")
    record = {
        "name": name,
        "profile": profile,
        "metric": study.metric,
        "columns": list(study.columns),
        "differs": chosen.differs,
        "seeds": list(range(seeds)),
        "protocol": protocol._asdict(),
        "rows": {row: row_record(rows[row], results) for row, results in found.items()},
        **store.provenance(sum(r["seconds"] for results in found.values() for r in results), parts),
        "data": ({data.dataset.name: data.dataset.record()} if data.dataset else {}) | own_data,
    }
    record |= {"left_out": absent} if absent else {}
    record["claims"] = claims_of(study.claims, record["rows"])
    arrays = {
        row: {k: [np.asarray(r["arrays"][k], float) for r in results] for k in results[0]["arrays"]}
        for row, results in found.items()
    }
    return record, arrays


def parted(found: Mapping[str, Any], row: str) -> dict[str, Any]:
    """Return a row's result as {"numbers", "arrays"}, plain. Raises ValueError for a row that gives no number."""
    numbers = {k: float(v) for k, v in found.items() if np.ndim(v) == 0}
    if not numbers:
        raise ValueError(f"{row}: a row of a study gives named numbers, got {sorted(found)}")
    arrays = {k: np.round(np.asarray(v, float), 6).tolist() for k, v in found.items() if np.ndim(v)}
    return {"numbers": numbers, "arrays": arrays}


def row_record(case: Case, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a row's part of the record."""
    out: dict[str, Any] = {"paper": case.paper, "bound": case.bound, "differs": case.differs}
    out["metrics"] = {k: [r["numbers"][k] for r in results] for k in results[0]["numbers"]}
    out["seconds"] = [round(r["seconds"], 2) for r in results]
    return out | ({"exact": True} if case.exact else {})


def announce(metric: str, row: str, seed: int, result: Mapping[str, Any], resumed: bool, count: str) -> None:
    """Print a line for a finished row on stderr."""
    what = "taken up" if resumed else f"{result['seconds']:.1f} s"
    value = result["numbers"].get(metric, float("nan"))
    print(f"{count} {row}, seed {seed}: {metric} {value:.5g} ({what})", file=sys.stderr, flush=True)
