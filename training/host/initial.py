"""A run that starts from the weights of another one: `--init-from RUN`."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from training.store import checkpoint
from training.store.arrays import named_leaves, params_sha256, signature
from training.store.errors import RunError
from training.store.identity import Identity
from training.store.schema import SUMMARY, read_sealed


def weights_file(source: Path) -> Path:
    """Return the checkpoint whose weights a run stands for: the one it tested, else its newest sound one.

    Raises RunError, one line, where there is none.
    """
    summary = source / "summary.json"
    if summary.exists() and (name := read_sealed(summary, SUMMARY).get("tested_file")):
        return source / name
    difference = lambda meta: Identity.read(source).difference(meta["identity"])
    found = checkpoint.latest(source / "checkpoints", print, difference) if source.is_dir() else None
    if found is None:
        raise RunError(f"--init-from {source}: there is no run with a checkpoint; give a run folder")
    return found[0]


def started_from(state: Any, source: Path, optimizer: str) -> tuple[Any, dict[str, Any]]:
    """Return a run's first state with the weights of the run in `source`, and the record of what was taken.

    The weights are those that were tested: of the best epoch where patience chose one, their running mean where
    the run kept it. optimizer: "fresh" starts it anew, "kept" takes its moments; the schedule starts anew in both.
    Raises RunError, one line, where shapes differ.
    """
    path = weights_file(source)
    arrays = checkpoint.load(path).arrays
    model = _taken(state.model, arrays, ".model", source)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    if any(name.startswith(".ema") for name in arrays):
        params = _taken(params, arrays, ".ema", source)
        model = nnx.merge(graphdef, params, rest, copy=True)
    opt_state = state.opt_state
    if optimizer == "kept":
        opt_state = _schedule_anew(_taken(opt_state, arrays, ".opt_state", source, whole=True))
    ema = jax.tree.map(jnp.copy, params) if state.ema != () else ()
    record = {"run": str(source), "file": path.name, "params_sha256": params_sha256(params), "optimizer": optimizer}
    return state._replace(model=model, opt_state=opt_state, ema=ema), record


def _taken(tree: Any, arrays: dict[str, Any], prefix: str, source: Path, whole: bool = False) -> Any:
    """Return `tree` with every leaf from `arrays`, where their names begin with `prefix`; whole: none may be left."""
    out, named = [], named_leaves(tree)
    left = {name for name in arrays if name.startswith(prefix)} - {prefix + name for name, _ in named}
    if whole and left:
        raise RunError(
            f"--init-from {source}: its optimizer is another one ({min(left)} has no place here): use "
            "--init-optimizer fresh"
        )
    for name, leaf in named:
        found, wanted = arrays.get(prefix + name), signature(leaf)
        if found is None or signature(found) != wanted:
            there = "missing" if found is None else f"{signature(found)[0]} {signature(found)[1]}"
            raise RunError(
                f"--init-from {source}: {prefix}{name} is {there} there, {wanted[0]} {wanted[1]} here; start with "
                f"the same parts and data (--from {source}), or --init-optimizer fresh where the optimizer differs"
            )
        out.append(jax.device_put(jnp.asarray(found), getattr(leaf, "sharding", None)))
    return jax.tree.unflatten(jax.tree.structure(tree), out)


def _schedule_anew(opt_state: Any) -> Any:
    """Return an optimizer's state whose schedule, and cycle of accumulation, stand at their first step."""
    zero = lambda s: jax.tree.map(jnp.zeros_like, s) if isinstance(s, optax.ScaleByScheduleState) else s
    fresh = jax.tree.map(zero, opt_state, is_leaf=lambda s: isinstance(s, optax.ScaleByScheduleState))
    if isinstance(fresh, optax.MultiStepsState):
        clean = jax.tree.map(jnp.zeros_like, (fresh.mini_step, fresh.gradient_step, fresh.acc_grads))
        return fresh._replace(mini_step=clean[0], gradient_step=clean[1], acc_grads=clean[2])
    return fresh
