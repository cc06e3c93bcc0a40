"""Run a command: data, run folder, compiled pieces, loop, test evaluation, summary."""

import dataclasses
import functools
import itertools
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.config import kind, to_dict
from training.cli.progress import Progress
from training.devices import batch_mesh, measured_choice
from training.evaluate import Best, criterion, first_bad_metric, measure, ramp_epochs, trained_model, training_mean
from training.host import loop
from training.host.loop import Pace
from training.inputs import Inputs, load_inputs
from training.pictures import figures
from training.signals import StopSignals
from training.store.arrays import params_sha256
from training.store.checkpoint import best_path, restore_like
from training.store.metrics_file import read_metrics
from training.store.run_folder import RunFolder, default_path


class Sizes:
    """Stands for training examples where only their number and shape matter."""

    def __init__(self, n: int, shape: tuple[int, ...]):
        self.n, self.shape = n, shape

    def __len__(self) -> int:
        return self.n


class Core(NamedTuple):
    """The pure functions of a run, as `train.py` defines them."""

    init: Callable[..., Any]
    train_steps: Callable[..., Any]
    train_on: Callable[..., Any]
    start_epoch: Callable[..., Any]
    epoch_order: Callable[..., Any]
    run_keys: Callable[..., Any]
    steps_per_epoch: Callable[..., int]


def programs(core: Core, config: Any, key: jax.Array, inputs: Inputs, dispatch: str) -> loop.Programs:
    """Return the compiled pieces of a run; in any chunks they compute what the pure `train` computes.

    `dispatch` is "loop" (a dispatch loops over its steps inside XLA) or "step" (one call for each step, the
    only way when batches come from a stream).
    """
    splits, n = inputs.splits, inputs.examples
    _, k_order, k_step = core.run_keys(key)
    k_valid = jax.random.fold_in(key, 1)
    floats = jax.tree.map(jnp.asarray, config)  # on the device once, not at every call

    many = jax.jit(core.train_steps, donate_argnums=0)
    one = jax.jit(functools.partial(core.train_steps, count=1), donate_argnums=0)
    on = jax.jit(functools.partial(core.train_on, n=n, range=inputs.dataset.range), donate_argnums=0)
    order = jax.jit(core.epoch_order, static_argnums=2)
    judge = jax.jit(measure)
    per_epoch = core.steps_per_epoch(config, n)

    def advance(state: Any, order: Any, count: int) -> Any:
        if inputs.stream is not None:
            for batch in itertools.islice(inputs.stream, count):
                state = on(state, floats, k_step, batch["x"])
            return state
        if dispatch == "loop":
            return many(state, floats, k_step, splits["train"], order, count)
        for _ in range(count):
            state = one(state, floats, k_step, splits["train"], order)
        return state

    def validate(state: Any) -> tuple[dict[str, float], dict[str, list[float]]]:
        return plain(judge(floats, state, splits["validation"], k_valid))

    return loop.Programs(
        start_epoch=jax.jit(core.start_epoch, donate_argnums=0),
        order=lambda epoch: order(k_order, epoch, n) if inputs.stream is None else None,
        advance=advance,
        validate=validate,
        per_epoch=per_epoch,
        epochs=config.epochs,
        patience=config.patience,
        ramps=ramp_epochs(config, per_epoch),
        criterion=functools.partial(criterion, config),
    )


def plain(measured: tuple[dict[str, Any], dict[str, Any]]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return what `measure` returns as numbers and lists."""
    values, vectors = jax.device_get(measured)
    return {k: float(v) for k, v in values.items()}, {k: np.asarray(v, float).tolist() for k, v in vectors.items()}


def choose_dispatch(core: Core, config: Any, key: jax.Array, state: Any, inputs: Inputs) -> str:
    """Return "loop" or "step", whichever advances copies of `state` faster here (measured once, remembered)."""
    plain = dataclasses.replace(config, dataset="", epochs=1, patience=0)
    if inputs.stream is not None:
        return "step"
    train = inputs.splits["train"]
    signature = (str(jax.tree.structure(plain)), train.shape, str(train.x.dtype))

    def candidate(dispatch: str) -> Callable[[], Any]:
        pieces = programs(core, config, key, inputs, dispatch)
        order, count = pieces.order(0), min(8, pieces.per_epoch)
        return lambda: pieces.advance(jax.tree.map(jnp.copy, state), order, count)

    return measured_choice("dispatch", signature, {name: candidate(name) for name in ("loop", "step")})[0]


def open_run(command: Any, record: dict[str, Any]) -> RunFolder:
    """Return the run folder that a command asks for: a new one, or one taken up again."""
    config, line = command.config, shlex.join(["python", *sys.argv])
    path = Path(command.run_dir or default_path(config.dataset, kind(type(config.objective))))
    if command.resume and (path / "config.json").exists():
        return RunFolder.resume(path, line, record)
    return RunFolder.create(path, to_dict(config) | {"data_dir": command.data_dir}, line, record)


def fit(core: Core, command: Any) -> tuple[Path, dict[str, Any], int]:
    """Run a command to its end in its run folder; return its folder, summary and exit code (0, 1, 130, 143).

    Raises ConfigError, data.DataError or RunError (one line each) for what its user can put right.
    """
    config = command.config
    with StopSignals() as stop:
        inputs = load_inputs(config, command.data_dir)
        mesh = batch_mesh(config.batch_size)
        with jax.set_mesh(mesh), jax.default_matmul_precision(config.matmul_precision):
            key = jax.random.key(config.seed)
            state = _initial(core, config, key, inputs)
            with open_run(command, inputs.dataset.record()) as folder:
                if folder.summary and folder.summary["status"] == "finished":
                    return folder.path, folder.summary, 0
                return _fit_in(folder, core, command, key, state, inputs, stop)


def cause(
    folder: RunFolder,
    core: Core,
    config: Any,
    key: jax.Array,
    pieces: loop.Programs,
    inputs: Inputs,
    why: dict[str, Any],
) -> dict[str, Any]:
    """Return `why`, or the gradient of the step before if that is what spoiled the loss.

    Replays from the last checkpoint (or the start) to the step named: its parameters tell.
    """
    if why["term"] == "gradient" or why["step"] == 0:
        return why
    state = _initial(core, config, key, inputs)
    if found := folder.latest():
        state = restore_like(state, found[0])
        if inputs.stream is not None:
            inputs.stream.set_state(found[1]["stream"])
    elif inputs.stream is not None:
        return why  # a stream without a checkpoint cannot go back
    state = loop.replay(pieces, state, why["step"])
    return loop.first_bad_term(state) if int(state.bad_step) >= 0 else why


def _initial(core: Core, config: Any, key: jax.Array, inputs: Inputs) -> Any:
    sizes = Sizes(inputs.examples, inputs.dataset.shape)
    init = jax.jit(lambda config, key: core.init(config, key, sizes))
    return init(jax.tree.map(jnp.asarray, config), core.run_keys(key)[0])


def _fit_in(
    folder: RunFolder,
    core: Core,
    command: Any,
    key: jax.Array,
    state: Any,
    inputs: Inputs,
    stop: StopSignals,
) -> tuple[Path, dict[str, Any], int]:
    """Train from where the folder stands, test, draw the figures, write the summary."""
    config, begin = command.config, time.monotonic()
    best, dispatch, before = loop.Best(), command.dispatch, 0.0
    dataset, stream = inputs.dataset, inputs.stream
    unit = "images" if len(dataset.shape) == 3 else "examples"
    found = folder.latest()
    if found:
        path, saved = found
        state = restore_like(state, path)
        dispatch, before = saved["dispatch"], saved["seconds"]
        if stream is not None:
            stream.set_state(saved["stream"])
        best = loop.Best(float(saved["best"]["value"]), saved["best"]["epoch"], saved["best"]["metrics"])
    elif dispatch == "auto":
        dispatch = choose_dispatch(core, config, key, state, inputs)
    folder.rewind(int(state.step))
    pieces = programs(core, config, key, inputs, dispatch)

    def meta() -> dict[str, Any]:
        seconds = before + time.monotonic() - begin
        return {"dispatch": dispatch, "seconds": seconds, "stream": stream and stream.get_state()}

    start = int(state.step)
    with Progress(pieces.per_epoch * pieces.epochs, pieces.per_epoch, config.batch_size, start, unit) as progress:
        outcome = loop.run(pieces, state, folder, best, meta, stop, progress.update)
    why = outcome.why
    if outcome.status == "diverged":
        why = cause(folder, core, config, key, pieces, inputs, why)
    summary = {
        "params_sha256": params_sha256(nnx.state(outcome.state.model, nnx.Param)),
        "test": None,
        "last": outcome.row,
        "best": outcome.best._asdict(),
        "end": why,
        "dispatch": dispatch,
    }
    if outcome.status == "finished":
        state = restore_like(outcome.state, best_path(folder.checkpoints)) if config.patience else outcome.state
        values = jax.jit(core.evaluate)(config, state, inputs.splits["test"], jax.random.fold_in(key, 2))
        summary["test"] = {name: float(value) for name, value in values.items()}
        if command.figures:
            model, rows = core.trained_model(config, state), read_metrics(folder.metrics.path)
            figures.write_all(folder.figures, model, dataset, rows, jax.random.fold_in(key, 3))
    folder.finish(outcome.status, **summary, seconds=before + time.monotonic() - begin)
    return (
        folder.path,
        folder.summary or {},
        {"finished": 0, "diverged": 1, "preempted": stop.exit_code}[outcome.status],
    )
