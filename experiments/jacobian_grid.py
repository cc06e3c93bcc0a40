"""The comparison behind `python -m experiments.jacobians`: methods x networks x parts x batch x dtype,
measured.
"""

import contextlib
import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import grads
from experiments.jacobian_networks import KINDS, network
from experiments.jacobian_timing import inputs, mapped, measure
from grads.machine import current

PARTS = ("encoder", "decoder", "autoencoder")
METHODS = ("fwd", "rev", "fwd_chunked", "rev_chunked", "structured", "chain", "auto")
TOO_LONG, TOO_LARGE = 2.0, 2e9  # predicted seconds and bytes over which a cell is left out, and said so


def cells(mode: str) -> Iterator[tuple[str, str, int, str]]:
    """(kind, part, batch, dtype) of "quick", "auto" (the grid of the auto figure) or "full"."""
    if mode == "quick":
        yield from itertools.product(("dense",), PARTS, (1,), ("float32",))
    elif mode == "auto":
        models = [(k, "autoencoder") for k in KINDS] + [
            ("dense", "encoder"),
            ("dense", "decoder"),
            ("conv", "encoder"),
        ]
        for (kind, part), batch, dtype in itertools.product(models, (1, 16, 64), ("float32", "float64")):
            yield kind, part, batch, dtype
    else:
        yield from itertools.product(KINDS, PARTS, (1, 16, 64, 256), ("float32", "float64"))


def run(mode: str) -> list[dict]:
    """Measure all cells of a mode; one record per cell and method."""
    rows: list[dict] = []
    with jax.enable_x64(True):
        for kind, part, batch, dtype in cells(mode):
            try:
                new = measure_cell(kind, part, batch, dtype, rounds=3 if mode == "full" else 5)
            except Exception as error:
                raise RuntimeError(f"{kind} {part} batch {batch} {dtype}") from error
            rows += new
            done = {r["method"]: r["ms"] for r in new if r.get("ms")}
            best = min((v for k, v in done.items() if k != "auto"), default=math.nan)
            print(f"{kind:<10}{part:<12}{batch:>4} {dtype}  best {best:8.3g} ms  "
                  f"auto {done.get('auto', math.nan):8.3g} ms "
                  f"({new[-1].get('chosen', '')})", flush=True)  # fmt: skip
    return rows


def measure_cell(kind: str, part: str, batch: int, dtype: str, rounds: int = 5) -> list[dict]:
    """Measure every method that applies to one network part, batch and dtype."""
    net = network(kind, jnp.dtype(dtype))
    fun, n = net.part(part)
    x = inputs(n, batch, jnp.dtype(dtype))
    one = x if batch == 1 else x[0]
    plan = grads.explain(lambda v: fun(net.params, v), one)
    predicted = {r.method.name: r for r in plan.rows}
    base = {"kind": kind, "part": part, "batch": batch, "dtype": dtype, "n": n, "m": plan.shape[0]}
    functions, rows = {"primal": _primal(fun, batch > 1)}, []
    for name in METHODS:
        row = predicted.get(name if name != "auto" else plan.method)
        reason = _left_out(row, batch)
        if reason and name != "auto":
            rows.append({**base, "method": name, "left_out": reason})
            continue
        functions[name] = mapped(lambda f, name=name: grads.jacobian(f, method=name), fun, batch > 1)
    times = measure(functions, (net.params, x), rounds=rounds, seconds=6.0)
    reference = _reference(fun, net.params, x, batch, plan.method)
    for name in functions:
        if name == "primal":
            continue
        t, row = times[name], predicted[name if name != "auto" else plan.method]
        rows.append({
            **base, "method": name, "ms": t.run * 1e3, "compile_s": t.compile, "temporary_bytes": t.temporary,
            "output_bytes": t.output, "operations": row.prediction.operations * batch,
            "predicted_ms": row.prediction.seconds * 1e3,
            "over_primal": t.run / times["primal"].run,
            "error": _error(functions[name], net.params, x, batch, reference),
            **({"chosen": plan.method} if name == "auto" else {}),
        })  # fmt: skip
    return rows


def _primal(fun: Any, batched: bool) -> Any:
    return jax.vmap(fun, in_axes=(None, 0)) if batched else fun


def _left_out(row: Any, batch: int) -> str | None:
    if row is None or row.cost is None:
        return (row.reason if row else "not registered") or "no prediction"
    if row.cost.seconds * batch > TOO_LONG:
        return f"predicted {row.cost.seconds * batch:.3g} s on {current().name}"
    if row.cost.memory * batch > TOO_LARGE:
        return f"predicted {row.cost.memory * batch / 1e9:.3g} GB"
    return None


def _first(x: jax.Array, batch: int) -> jax.Array:
    return x if batch == 1 else x[:1]


def _reference(fun: Any, params: Any, x: jax.Array, batch: int, method: str) -> np.ndarray:
    """The Jacobian of the first example in float64, by JAX's own forward or reverse mode."""
    up = lambda tree: jax.tree.map(lambda a: a.astype(jnp.float64), tree)
    one = up(_first(x, batch)).reshape(-1)
    outputs = jax.eval_shape(fun, up(params), one).size
    transform = jax.jacrev if outputs < one.size else jax.jacfwd
    with contextlib.suppress(MemoryError):
        return np.asarray(jax.jit(mapped(transform, fun, False))(up(params), one))
    return np.full((outputs, one.size), np.nan)


def _error(jacobian: Any, params: Any, x: jax.Array, batch: int, reference: np.ndarray) -> float:
    ours = np.asarray(jax.jit(jacobian)(params, _first(x, batch)), np.float64).reshape(reference.shape)
    return float(np.max(np.abs(ours - reference)) / np.max(np.abs(reference)))
