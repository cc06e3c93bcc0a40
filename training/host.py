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
from flax import nnx

from models.batch import Batch
from models.config import kind, to_dict
from training import loop
from training.devices import batch_mesh, measured_choice
from training.examples import Examples
from training.inputs import Inputs, load_inputs, needs_labels
from training.pictures import figures
from training.progress import Progress
from training.signals import StopSignals
from training.store.arrays import params_sha256
from training.store.checkpoint import restore_like
from training.store.environment import fix_threads
from training.store.identity import check_data_of, data_identity
from training.store.metrics_file import read_metrics
from training.store.run_folder import RunFolder, default_path


class StandIn:
    """Stands for training examples where only number and shape matter; `like`: examples that have their fields."""

    def __init__(self, n: int, shape: tuple[int, ...], like: Examples | None = None):
        self.n, self.shape, self.like = n, shape, like
        self.classes = 0 if like is None else like.classes

    def __len__(self) -> int:
        return self.n

    def batch(self, index: Any) -> Batch:
        """Return a batch of the structure that a step sees; its values are those of `like`, or zeros."""
        return Batch(jnp.zeros((len(index), *self.shape))) if self.like is None else self.like.batch(index)


class Core(NamedTuple):
    """The pure functions of a run, as `train.py` defines them."""

    init: Callable[..., Any]
    train_steps: Callable[..., Any]
    train_on: Callable[..., Any]
    start_epoch: Callable[..., Any]
    epoch_order: Callable[..., Any]
    run_keys: Callable[..., Any]
    evaluate: Callable[..., Any]
    trained_model: Callable[..., Any]


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
    on = jax.jit(functools.partial(core.train_on, n=n, range=inputs.range), donate_argnums=0)
    order = jax.jit(core.epoch_order, static_argnums=2)
    measure = jax.jit(core.evaluate)
    labelled = needs_labels(config.model)

    def advance(state: Any, order: Any, count: int) -> Any:
        if inputs.stream is not None:
            for batch in itertools.islice(inputs.stream, count):
                state = on(state, floats, k_step, batch["x"], batch["y"] if labelled else None)
            return state
        if dispatch == "loop":
            return many(state, floats, k_step, splits["train"], order, count)
        for _ in range(count):
            state = one(state, floats, k_step, splits["train"], order)
        return state

    def validate(state: Any) -> dict[str, float]:
        return {k: float(v) for k, v in measure(floats, state, splits["validation"], k_valid).items()}

    return loop.Programs(
        start_epoch=jax.jit(core.start_epoch, donate_argnums=0),
        order=lambda epoch: order(k_order, epoch, n) if inputs.stream is None else None,
        advance=advance,
        validate=validate,
        per_epoch=n // config.batch_size,
        epochs=config.epochs,
        patience=config.patience,
        criterion=config.objective.criterion,
    )


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


def open_run(command: Any) -> RunFolder:
    """Return the run folder that a command asks for, locked: of a new run (`claim`), or one to take up again."""
    path = Path(command.run_dir or default_path(command.config.dataset, kind(type(command.config.objective))))
    if command.resume and (path / "config.json").exists():
        return RunFolder.take(path, command.accept)
    return RunFolder.claim(path)


def begin(folder: RunFolder, command: Any, dataset: Any, threads: int | None) -> None:
    """Begin the run, or go on with it if the data are those it knows. Raises RunError where they are not."""
    record, config = dataset.record(), to_dict(command.config) | {"data_dir": command.data_dir}
    identity = data_identity(record, dataset.splits)
    if command.from_ and not command.resume and "data" not in command.accept:
        check_data_of(Path(command.from_), config, identity)
    for line in folder.begin(config, shlex.join(["python", *sys.argv]), record, identity, threads):
        print(line)


def fit(core: Core, command: Any) -> tuple[Path, dict[str, Any], int] | None:
    """Run a command to its end in its run folder; return its folder, summary and exit code (0, 1, 129, 130, 143).

    The folder is locked before any data are read. Raises ConfigError, data.DataError or RunError (one line each)
    for what its user can put right. A dry run says how the data are understood and returns None.
    """
    if command.dry_run:
        print(load_inputs(command.config, command.data_dir).line)
        return None
    with StopSignals() as stop, open_run(command) as folder:
        threads = command.threads or folder.threads
        fix_threads(threads)
        with stop.at_once("stopped before the first step; there is nothing to save", folder.abandon):
            inputs = load_inputs(command.config, command.data_dir)
            print(inputs.line)
            config = inputs.config
            command = dataclasses.replace(command, config=config)
            mesh = batch_mesh(config.batch_size)
        with jax.set_mesh(mesh), jax.default_matmul_precision(config.matmul_precision):
            key = jax.random.key(config.seed)
            with stop.at_once("stopped before the first step; there is nothing to save", folder.abandon):
                state = _initial(core, config, key, inputs)
                begin(folder, command, inputs.dataset, threads)
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
    sizes = StandIn(inputs.examples, inputs.dataset.shape, next(iter(inputs.splits.values())))
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
    config, begun = command.config, time.monotonic()
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
    folder.rewind(int(state.step), found and found[1])
    pieces = programs(core, config, key, inputs, dispatch)

    def meta() -> dict[str, Any]:
        seconds = before + time.monotonic() - begun
        return {"dispatch": dispatch, "seconds": seconds, "stream": stream and stream.get_state()}

    start = int(state.step)
    with Progress(pieces.per_epoch * pieces.epochs, pieces.per_epoch, config.batch_size, start, unit) as progress:
        outcome = loop.run(pieces, state, folder, best, meta, stop, progress.update)
    why = outcome.why
    if outcome.status == "diverged":
        why = cause(folder, core, config, key, pieces, inputs, why)
        why |= {"data": inputs.unit} if why["step"] == 0 else {}
    summary = {
        "params_sha256": params_sha256(nnx.state(outcome.state.model, nnx.Param)),
        "test": None,
        "last": outcome.row,
        "best": outcome.best._asdict(),
        "end": why,
        "dispatch": dispatch,
    }
    if outcome.status == "finished":
        folder.finish("preempted", **summary, seconds=before + time.monotonic() - begun)  # should the rest be cut short
        with stop.at_once(f"trained and saved, but not tested; continue with: --resume --run-dir {folder.path}"):
            state = restore_like(outcome.state, folder.best(outcome.best.epoch)) if config.patience else outcome.state
            values = jax.jit(core.evaluate)(config, state, inputs.splits["test"], jax.random.fold_in(key, 2))
            summary["test"] = {name: float(value) for name, value in values.items()}
            if command.figures:
                model, rows = core.trained_model(config, state), read_metrics(folder.metrics.path)
                figures.write_all(folder.figures, model, dataset, rows, jax.random.fold_in(key, 3))
    folder.finish(outcome.status, **summary, seconds=before + time.monotonic() - begun)
    return (
        folder.path,
        folder.summary or {},
        {"finished": 0, "diverged": 1, "preempted": stop.exit_code}[outcome.status],
    )
