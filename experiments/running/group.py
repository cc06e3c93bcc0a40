"""Many runs as few programs: configs of equal structure are stacked and share one executable.

How the rows of a group run is a `Placement`, chosen per backend by a short measurement: stacked (`vmap`), one after
another inside one program (`lax.map`), or a call for each; over one device or all of them, each with its share
of the rows. The data are arguments, so another data set of the same size needs no compilation either.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import train
from experiments.running.listed import finished
from experiments.running.one_run import Splits, run
from models.autoencoder import Model
from models.likelihoods import AutoLikelihood
from training.devices import measured_choice
from training.evaluate import first_bad_metric
from training.inputs import DATA_FIELDS, Inputs, load_inputs, needs_labels, resolved
from training.terms import first_bad_term

SMALL = 1e13  # operations (6 per weight and example) of a group below which measuring costs more than it can save
TRIAL_ROWS, TRIAL_BATCHES = 8, 16  # size of that measurement

_compiled: dict[Any, Any] = {}
_count = [0]


class Placement(NamedTuple):
    """How rows run: by `vmap` or `map` inside a program, on how many devices, how many rows each per call (0: all)."""

    inner: Literal["vmap", "map"]
    devices: int
    rows: int


def plans() -> dict[str, Placement]:
    """Return the plans that make sense here, the default first.

    rows: one row per device and call; sequential: one row per call on one device; map, vmap: all rows in one
    call, spread over all devices.
    """
    n = len(jax.devices())
    out = {"sequential": Placement("map", 1, 1), "map": Placement("map", n, 0), "vmap": Placement("vmap", n, 0)}
    if n > 1:
        out = {"rows": Placement("map", n, 1)} | out
    return out if jax.default_backend() == "cpu" else dict(sorted(out.items(), key=lambda kv: kv[0] != "vmap"))


def compilations() -> int:
    """Return how many programs of groups this process has compiled."""
    return _count[0]


def stack(configs: Sequence[Any]) -> Any:
    """Return configs of one structure as one: every float a vector of JAX's default float, every seed uint32."""

    def leaf(path: Any, *values: Any) -> np.ndarray:
        whole = getattr(path[-1], "name", "") == "seed"
        return np.asarray([np.asarray(v)[()] for v in values], np.uint32 if whole else jnp.result_type(float))

    return jax.tree_util.tree_map_with_path(leaf, *configs)


def grouped(configs: Sequence[Any], also: Sequence[Any] = ()) -> list[list[int]]:
    """Return the positions of the configs, those of equal structure together, in order of first appearance.

    also: a value for each config that must be equal too, as the number of its examples.
    """
    out: dict[Any, list[int]] = {}
    for i, config in enumerate(configs):
        out.setdefault((jax.tree.structure(config), *also[i : i + 1]), []).append(i)
    return list(out.values())


def executable(
    plan: Placement, width: int, config: Any, splits: Splits, measures: tuple[Any, ...] = ()
) -> Callable[[Any, Splits], Any]:
    """Return the compiled program of `width` rows; compiled once per plan, structure and shapes, and counted."""
    one = functools.partial(run, measures=measures)
    shapes = jax.tree.map(lambda a: (a.shape, str(a.dtype)), splits)
    identity = (plan, width, jax.tree.structure(config), jax.tree.structure(splits), str(shapes), run, measures)
    if identity not in _compiled:
        inner = jax.vmap(one, (0, None)) if plan.inner == "vmap" else functools.partial(mapped, one)
        mesh = mesh_of(plan)
        spread, whole = PartitionSpec("run"), PartitionSpec()
        program = jax.shard_map(inner, mesh=mesh, in_specs=(spread, whole), out_specs=spread, check_vma=False)
        arguments = placed(mesh, stack([config] * width), splits)
        _compiled[identity] = jax.jit(program).lower(*arguments).compile()
        _count[0] += 1
    return _compiled[identity]


def mapped(one: Callable[[Any, Splits], Any], configs: Any, splits: Splits) -> Any:
    """Run the rows of a stack one after another."""
    if len(jax.tree.leaves(configs)[0]) == 1:  # a loop of one would only hide the run from XLA's optimiser
        return jax.tree.map(lambda a: a[None], one(jax.tree.map(lambda a: a[0], configs), splits))
    return jax.lax.map(lambda config: one(config, splits), configs)


@functools.cache
def mesh_of(plan: Placement) -> jax.sharding.Mesh:
    """Return the mesh of a plan: one axis, "run"."""
    return jax.make_mesh((plan.devices,), ("run",), (AxisType.Auto,), devices=jax.devices()[: plan.devices])


def placed(mesh: jax.sharding.Mesh, configs: Any, splits: Splits) -> tuple[Any, Splits]:
    """Return a stack spread over the mesh and the data copied to each of its devices."""
    put = lambda tree, spec: jax.device_put(tree, NamedSharding(mesh, spec))
    return put(configs, PartitionSpec("run")), put(splits, PartitionSpec())


def run_with(
    plan: Placement, configs: Sequence[Any], splits: Splits, measures: tuple[Any, ...] = ()
) -> Iterator[tuple[list[int], Any, float]]:
    """Yield (positions, stacked outputs on the host, seconds) call by call; the last call is filled up."""
    width = plan.devices * (plan.rows or -(-len(configs) // plan.devices))
    program = executable(plan, width, configs[0], splits, measures)
    splits = placed(mesh_of(plan), (), splits)[1]
    for start in range(0, len(configs), width):
        take = list(range(start, min(start + width, len(configs))))
        rows = [configs[i] for i in take] + [configs[take[-1]]] * (width - len(take))
        begin = time.perf_counter()
        out = jax.device_get(program(placed(mesh_of(plan), stack(rows), {})[0], splits))
        yield take, out, time.perf_counter() - begin


def choose(configs: Sequence[Any], splits: Splits) -> str:
    """Return the name of the plan for a group: measured once per kind of group, or the default for a small one."""
    config, examples = configs[0], splits["train"]
    model = jax.eval_shape(lambda: train.init(config, jax.random.key(0), examples).model)
    weights = sum(leaf.size for leaf in jax.tree.leaves(model))
    if len(configs) == 1:
        return "sequential"
    if 6.0 * weights * len(examples) * config.epochs * len(configs) < SMALL:
        return next(iter(plans()))
    batches = min(TRIAL_BATCHES, len(examples) // config.batch_size)
    few = {part: s.part(slice(config.batch_size)) for part, s in splits.items()}
    few["train"] = examples.part(slice(batches * config.batch_size))
    brief = [dataclasses.replace(c, epochs=1, patience=0) for c in configs[:TRIAL_ROWS]]
    signature = (str(jax.tree.structure(dataclasses.replace(brief[0], dataset=""))), len(brief), examples.shape)
    before = _count[0]
    candidates = {n: functools.partial(_exhaust, plan, brief, few) for n, plan in plans().items()}
    choice = measured_choice("rows of a group", signature, candidates)[0]
    _count[0] = before  # trials are no programs of the group
    return choice


def _exhaust(plan: Placement, configs: Sequence[Any], splits: Splits) -> list[Any]:
    return [out["test"] for _, out, _ in run_with(plan, configs, splits)]


def limited(splits: Splits, examples: int | None, seen: bool, known: Any = None) -> Splits:
    """Return the splits with only the first `examples` for training (None: all), and with the split `seen`.

    `seen` is as many training examples as there are for test: their metrics against the test's are the gap. known: a
    `table.Known`, the labels that training sees.
    """
    part = splits["train"]
    if examples is not None:
        splits = splits | {"train": part.part(slice(examples))}
    if known is not None:
        splits = splits | {"train": with_few_labels(splits["train"], *known)}
    if seen:
        few = min(len(splits["train"]), len(splits["test"]))
        splits = splits | {"seen": part.part(slice(few))}
    return splits


def with_few_labels(examples: Any, labels: int, copies: int, only: bool) -> Any:
    """Return the examples of which only the first of each class, `labels` in all, keep theirs; those `copies` times.

    only: leave out the others.

    Raises ValueError for examples without labels, or with too few of a class.
    """
    y, each = np.asarray(examples.label), labels // max(1, examples.classes)
    if not examples.classes or each < 1 or np.bincount(y, minlength=examples.classes).min() < each:
        raise ValueError(f"{labels} labels, as many of each class, cannot be kept of {len(y)} examples")
    kept = np.concatenate([np.flatnonzero(y == c)[:each] for c in range(examples.classes)])
    hidden = np.full(len(y), -1, np.int32)
    hidden[kept] = y[kept]
    order = np.tile(kept, copies) if only else np.concatenate([np.arange(len(y)), np.tile(kept, copies - 1)])
    return dataclasses.replace(examples, label=jnp.asarray(hidden)).part(order)


def data_of(config: train.Config, data_dir: str | None) -> tuple[Splits, Any]:
    """Return the splits that a config reads, in memory, and its data set. Raises data.DataError and ConfigError."""
    return _read(data_key(config), data_dir)


def data_key(config: train.Config) -> train.Config:
    """Return the config of which only the fields that decide its data are left."""
    model = Model(labels="given" if needs_labels(config.model) else "none", likelihood=AutoLikelihood())
    return train.Config(**{name: getattr(config, name) for name in DATA_FIELDS}, read="memory", model=model)


@functools.lru_cache(maxsize=4)
def _read(config: train.Config, data_dir: str | None) -> tuple[Splits, Any]:
    inputs = load_inputs(config, data_dir)
    return inputs.splits, inputs.dataset


def fitting(configs: Sequence[train.Config], dataset: Any) -> list[train.Config]:
    """Return the configs as they fit the data: likelihoods resolved, supports checked, as `train.py` does."""
    return [resolved(config, dataset) for config in configs]


def iterate_group(
    configs: Sequence[train.Config],
    data_dir: str | None = None,
    examples: int | None = None,
    seen: bool = False,
    plan: str = "auto",
    known: Any = None,
    measures: tuple[Any, ...] = (),
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (position, result) of configs of one structure as they finish; they compile once.

    data_dir: folder of data files. examples: train on the first so many (None: all). seen: measure training examples
    too. plan: a name in `plans()`, or "auto" for the measured choice. known: a `table.Known`. measures: what more is
    measured on the test split. Raises data.DataError and ConfigError for data
    and configs that cannot be run.
    """
    first = configs[0]
    if len(grouped(configs)) > 1:
        raise ValueError("these configs differ in structure: split them with `grouped` first")
    splits, dataset = data_of(first, data_dir)
    inputs = Inputs(splits, dataset)
    splits, configs = limited(splits, examples, seen, known), fitting(configs, dataset)
    if first.batch_size > len(splits["train"]):
        raise ValueError(f"batch_size {first.batch_size} exceeds the {len(splits['train'])} training examples")
    name = choose(configs, splits) if plan == "auto" else plan
    for take, out, seconds in run_with(plans()[name], configs, splits, measures):
        for row, i in enumerate(take):
            one = jax.tree.map(lambda a, row=row: a[row], out)
            yield i, result(one, seconds / len(take), configs[i], inputs, measures) | {"plan": name}


def result(
    out: dict[str, Any],
    seconds: float,
    config: Any = None,
    inputs: Inputs | None = None,
    measures: tuple[Any, ...] = (),
) -> dict[str, Any]:
    """Return a run's outputs as plain numbers. config, inputs: for measures that work on the host.

    Keys: test, perhaps seen (metrics with units in the names), with such measures units and not_measured, history
    {"train", "validation"} of lists over the epochs that ran, epochs, best_epoch, diverged (None, or the first bad step
    and its term or metric), seconds (its share of the call), pictures (an array).
    """
    ran = int(out["epochs"])
    history = {
        part: {name: [float(v) for v in values[:ran]] for name, values in terms.items()}
        for part, terms in out["history"].items()
    }
    bad = Ends(int(out["bad_step"]), out["bad_terms"])
    measured = {part: {k: float(v) for k, v in out[part].items()} for part in ("test", "seen") if part in out}
    more: dict[str, Any] = {}
    if out["rows"] and bad.bad_step < 0:
        assert inputs is not None
        more = finished(measures, out["rows"], config, inputs, measured["test"])
        measured["test"] |= more.pop("numbers")
    last = {f"validation {name}": values[-1] for name, values in history.get("validation", {}).items()}
    bad_metric = first_bad_metric(last | {f"test {name}": value for name, value in measured["test"].items()})
    wrong = {"step": int(out["step"]), "term": bad_metric} if bad_metric else None
    return measured | more | {
        "history": history,
        "epochs": ran,
        "best_epoch": int(out["best_epoch"]),
        "diverged": first_bad_term(bad) if bad.bad_step >= 0 else wrong,
        "seconds": seconds,
        "pictures": np.asarray(out["pictures"], np.float32),
    }


class Ends(NamedTuple):
    """The part of a state that says where it went wrong."""

    bad_step: int
    bad_terms: dict[str, Any]
