"""What `python -m experiments jacobians` measures: methods x networks x parts x batch x dtype.

Batches: a method of one example is mapped over the batch with `jax.vmap`; `batched`, which is for functions of a
batch, gets the function of the whole batch with `batch_axis=0` (the Jacobian of each example is the same array).
`auto` is measured both ways: `auto` by vmap, `auto_batch` with batch_axis=0; with one example there is only the first.

A method is left out of a cell, with the reason, where it does not apply, where it is predicted to need more
seconds than the budget or more than `LARGEST` bytes: by its own cost; for methods without a prediction by their time
at a smaller batch, or by the time of the function, which is measured just before.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import grads
from experiments.jacobians.networks import KINDS, Network, inputs, mapped, network
from experiments.jacobians.race import Entry, race
from experiments.running.store import Finished, rounded

OWN = ("__init__", "grid", "networks", "race")
MEASURED = ("grads", "experiments/__init__.py", *(f"experiments/jacobians/{name}.py" for name in OWN))
"""all that can move a number of the comparison"""
PARTS, BATCHES, DTYPES = ("encoder", "decoder", "autoencoder"), (1, 16, 64, 256), ("float32", "float64")
LARGEST = 2e9  # predicted bytes
SKETCH = 168  # products of the default randomised approximation: 2 (1 + power) (rank + oversample)
EVALUATIONS = {"naive_loop": 2, "finite_difference": 2, "complex_step": 4, "randomized_svd": 2}  # per column
Cell = tuple[str, str, int, str]
Earlier = dict[tuple[str, str, str, str], dict]


def cells(mode: str) -> Iterator[Cell]:
    """(kind, part, batch, dtype) of "tiny", "quick", "auto" (the grid of the figure of auto) or "full"."""
    if mode == "tiny":
        yield "dense", "encoder", 1, "float32"
    elif mode == "quick":
        yield from [("dense", part, 1, "float32") for part in PARTS]
        yield "dense", "autoencoder", 16, "float32"
    elif mode == "auto":
        models = [("dense", "encoder"), ("dense", "decoder"), ("conv", "encoder")] + [(k, "autoencoder") for k in KINDS]
        for (kind, part), batch, dtype in itertools.product(models, BATCHES[:3], DTYPES):
            yield kind, part, batch, dtype
    else:
        yield from itertools.product(KINDS, PARTS, BATCHES, DTYPES)


def names(batch: int) -> tuple[str, ...]:
    """Return the columns of the comparison: every registered method, and auto in its one or two forms."""
    return (*grads.methods(), "auto", *(("auto_batch",) if batch > 1 else ()))


@dataclass(frozen=True)
class Budget:
    """Seconds a cell's race may take, and one run of one method (predicted); whether approximations take part."""

    race: float = 4.0
    longest: float = 2.0
    approximations: bool = True


BUDGETS = {
    "tiny": Budget(0.2, 0.05),
    "quick": Budget(1.0, 0.1),
    "auto": Budget(1.5, 0.5, approximations=False),
    "full": Budget(1.5, 0.5),
}


def measure_cell(cell: Cell, budget: Budget, earlier: Earlier) -> list[dict]:
    """Measure every method that applies to one network part, batch and dtype; one record per method."""
    kind, part, batch, dtype = cell
    with jax.enable_x64(True):
        net = network(kind, jnp.dtype(dtype))
        fun, n = net.part(part)
        x = inputs(n, batch, jnp.dtype(dtype))
        plans = _plans(fun, net, x, batch)
        start = {"primal": mapped(lambda f: f, fun, batch > 1)}
        once = race(start, (net.params, x), seconds=0.05)["primal"]
        before = {m: earlier.get((kind, part, dtype, m)) for m in names(batch)}
        reasons = {m: left_out(m, plans, batch, once.run, before[m], budget) for m in names(batch)}
        entered = start | {m: _jacobian(fun, m, batch) for m, reason in reasons.items() if reason is None}
        errors: dict[str, float] = {}
        want = _reference(kind, part, dtype)(net.params, x if batch == 1 else x[0])

        def see(name: str, result: jax.Array) -> None:
            if name != "primal":
                got = np.asarray(result if batch == 1 else result[0], np.float64)
                errors[name] = float(np.max(np.abs(got - want)) / np.max(np.abs(want)))

        found = race(entered, (net.params, x), seconds=budget.race, see=see)
        limited = _within_limit(fun, net, x, batch, n * want.shape[0])
    base = {"kind": kind, "part": part, "batch": batch, "dtype": dtype, "n": n, "m": want.shape[0]}
    refused = {m: Entry(refused=reason) for m, reason in reasons.items() if reason is not None}
    entries, primal = found | refused, found["primal"].run
    return [
        base
        | {"method": m}
        | _record(m, entries[m], plans, batch, primal, errors.get(m))
        | (limited if m == "auto" else {})
        for m in names(batch)
    ]


def _plans(fun: Callable, net: Network, x: jax.Array, batch: int) -> dict[str, grads.Plan]:
    """Return what `explain` says: "one" of one example, "whole" of the batch with batch_axis=0."""
    out = {"one": grads.explain(lambda v: fun(net.params, v), x if batch == 1 else x[0])}
    if batch > 1:
        whole = jax.vmap(lambda v: fun(net.params, v))
        out["whole"] = grads.explain(whole, x, batch_axis=0)
    return out


def _jacobian(fun: Callable, name: str, batch: int) -> Callable:
    method = "auto" if name.startswith("auto") else name
    if batch > 1 and name in ("batched", "auto_batch"):
        return lambda p, x: grads.jacobian(jax.vmap(lambda v: fun(p, v)), method=method, batch_axis=0)(x)
    return mapped(lambda f: grads.jacobian(f, method=method), fun, batch > 1)


def _row(name: str, plans: dict[str, grads.Plan]) -> Any:
    """The row of a method's prediction, of the whole batch where it is `batched`; of the chosen method for auto."""
    plan = plans.get("whole", plans["one"]) if name in ("batched", "auto_batch") else plans["one"]
    wanted = plan.method if name.startswith("auto") else name
    return next(r for r in plan.rows if r.method.name == wanted)


def left_out(
    name: str, plans: dict[str, grads.Plan], batch: int, primal: float, before: dict | None, budget: Budget
) -> str | None:
    """Return why a method is not measured here, or None.

    `primal` is the measured time of the function, `before` this method's record at a smaller batch.
    """
    row = _row(name, plans)
    if row.reason:
        return row.reason
    if not row.method.exact and not budget.approximations:
        return "an approximation: not what auto is compared with"
    longest = budget.longest
    if row.cost is None:
        return _too_long(name, plans["one"].shape[1], batch, primal, before, longest)
    times = 1 if row.method.name == "batched" and batch > 1 else batch
    spent, held = row.cost.seconds * times, row.cost.memory * times
    chosen = row.method.name in ("batched", plans["one"].method)  # what auto chose is measured, however slow
    if spent > longest and not chosen:
        return f"predicted {spent:.3g} s, over the limit of {longest:g} s"
    return f"predicted {held / 1e9:.3g} GB, over the limit of {LARGEST / 1e9:g} GB" if held > LARGEST else None


def _too_long(name: str, n: int, batch: int, primal: float, before: dict | None, longest: float) -> str | None:
    """A method without a prediction: by its own time at a smaller batch, else by that of the function."""
    if before is not None and "left_out" in before:
        return (
            before["left_out"] if "batch" in before["left_out"] else f"at batch {before['batch']} {before['left_out']}"
        )
    if before is not None:
        spent, why = before["ms"] / 1e3 * batch / before["batch"], f"{before['ms']:.3g} ms at batch {before['batch']}"
    else:
        count = SKETCH if name == "randomized_svd" else n
        spent = EVALUATIONS.get(name, 0) * count * primal
        why = f"{count} derivatives or evaluations of a function of {1e3 * primal:.3g} ms"
    return f"predicted {spent:.3g} s from {why}, over the limit of {longest:g} s" if spent > longest else None


def _record(name: str, found: Entry, plans: dict, batch: int, primal: float, error: float | None) -> dict[str, Any]:
    if found.refused:
        return {"left_out": " ".join(found.refused.split())}
    row = _row(name, plans)
    times = 1 if row.method.name == "batched" and batch > 1 else batch
    predicted = {} if row.cost is None else {
        "operations": row.cost.operations * times, "predicted_ms": 1e3 * row.cost.seconds * times,
        "predicted_bytes": row.cost.memory * times,
    }  # fmt: skip
    chosen = {"chosen": row.method.name, "note": row.cost.note} if name.startswith("auto") else {}
    return {
        "ms": 1e3 * found.run, "first_call_s": found.first, "compile_s": found.compile,
        "temporary_bytes": found.temporary, "output_bytes": found.output, "over_primal": found.run / primal,
        "error": error, **predicted, **chosen,
    }  # fmt: skip


@functools.lru_cache(maxsize=8)
def _reference(kind: str, part: str, dtype: str) -> Callable[[Any, jax.Array], np.ndarray]:
    """The Jacobian of one example in float64, by JAX's own forward or reverse mode, compiled once per part."""
    net = network(kind, jnp.dtype(dtype))
    fun, n = net.part(part)
    up = lambda tree: jax.tree.map(lambda a: a.astype(jnp.float64), tree)
    outputs = jax.eval_shape(fun, net.params, jax.ShapeDtypeStruct((n,), jnp.dtype(dtype))).size
    run = jax.jit(mapped(jax.jacrev if outputs < n else jax.jacfwd, fun, False))
    return lambda params, x: np.asarray(run(up(params), up(x)))


def _within_limit(fun: Callable, net: Network, x: jax.Array, batch: int, entries: int) -> dict[str, float]:
    """Compile auto with a memory limit of 1.5 times its output and 1 MiB; return the limit and what is needed."""
    limit = int(1.5 * entries * batch * x.dtype.itemsize) + 2**20
    axis = 0 if batch > 1 else None
    whole = lambda p: jax.vmap(lambda v: fun(p, v)) if batch > 1 else lambda v: fun(p, v)
    limited = lambda p, v: grads.jacobian(whole(p), memory_limit=limit, batch_axis=axis)(v)
    try:
        memory = jax.jit(limited).lower(net.params, x).compile().memory_analysis()
    except grads.MemoryLimitError:
        return {"limit_bytes": limit, "within_limit_bytes": 0}
    assert memory is not None
    return {"limit_bytes": limit, "within_limit_bytes": memory.temp_size_in_bytes + memory.output_size_in_bytes}


def run(wanted: list[Cell], finished: Finished, budget: Budget, minutes: float | None = None) -> None:
    """Measure the cells that are not finished yet until `minutes` are over."""
    begin = time.perf_counter()
    earlier: Earlier = {}
    for i, cell in enumerate(wanted):
        found = finished.get(cell)
        if found is None:
            start = time.perf_counter()
            if minutes is not None and start - begin > 60 * minutes:
                continue
            try:
                rows = measure_cell(cell, budget, earlier)
            except Exception as error:
                raise RuntimeError(f"{' '.join(map(str, cell))}: {error}") from error
            found = {"rows": rounded(rows, 4), "seconds": time.perf_counter() - start}
            finished.put(cell, found)
            print(f"{i + 1}/{len(wanted)} {line(rows)}", flush=True)
        earlier |= {(r["kind"], r["part"], r["dtype"], r["method"]): r for r in found["rows"]}


def line(rows: list[dict]) -> str:
    """Return one line on a cell: its best method, and auto beside it."""
    measured = {r["method"]: r for r in rows if "ms" in r}
    best = min((m for m in measured if not m.startswith("auto")), key=lambda m: measured[m]["ms"], default=None)
    r = rows[0]
    head = f"{r['kind']:<10}{r['part']:<12}{r['batch']:>4} {r['dtype']}"
    autos = "  ".join(f"{m} {v['ms']:.3g} ms ({v['chosen']})" for m, v in measured.items() if m.startswith("auto"))
    return f"{head}  best {best} {measured[best]['ms']:.3g} ms  {autos}" if best else head
