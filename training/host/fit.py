"""Run a command: data, run folder, compiled pieces, loop, test evaluation, summary."""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from models.config import kind, to_dict
from training.cli.progress import Progress
from training.devices import batch_mesh
from training.evaluate import Best, criterion, measure
from training.host import loop
from training.host.finish import draw_missing, finish
from training.host.initial import started_from
from training.host.loop import Pace
from training.host.programs import Core, StandIn, choose_dispatch, programs
from training.inputs import Inputs, load_inputs
from training.pictures import trackers
from training.signals import StopSignals
from training.store.checkpoint import restore_like, steps
from training.store.environment import fix_threads
from training.store.errors import RunError
from training.store.identity import check_data_of, data_identity
from training.store.run_folder import RunFolder, default_path
from training.terms import first_bad_term


def open_run(command: Any) -> RunFolder:
    """Return the run folder that a command asks for, locked: of a new run (`claim`), or one to take up again."""
    path = Path(command.run_dir or default_path(command.config.dataset, kind(type(command.config.objective))))
    if command.resume and (path / "config.json").exists():
        return RunFolder.take(path, command.accept)
    return RunFolder.claim(path)


def begin(
    folder: RunFolder, command: Any, dataset: Any, threads: int | None, init: dict[str, Any] | None = None
) -> bool:
    """Begin the run, or go on with it if the data are those it knows; return whether it got more epochs.

    init: what it starts from, see `initial.started_from`. Raises RunError where the data are others.
    """
    record, config = dataset.record(), to_dict(command.config) | {"data_dir": command.data_dir}
    config |= {"init_from": init} if init else {}
    old = folder.config if (folder.path / "config.json").exists() else None
    identity = data_identity(record, dataset.splits)
    if command.from_ and not command.resume and "data" not in command.accept:
        check_data_of(Path(command.from_), config, identity)
    for line in folder.begin(config, shlex.join(["python", *sys.argv]), record, identity, threads):
        print(line)
    if old is None:
        for line in words_of_a_start(command, init):
            print(line)
        return False
    longer = old["epochs"] != command.config.epochs
    if longer:
        folder.extend(old | {"epochs": command.config.epochs})
    return longer


def words_of_a_start(command: Any, init: dict[str, Any] | None) -> list[str]:
    """Return in lines what a new run starts from, where an option could be read otherwise."""
    lines = []
    if command.resume:
        lines.append(f"--resume: {command.run_dir} holds no run yet, a new one starts")
    if command.from_ and not init:
        lines.append(f"--from: the config of {command.from_} is taken, not its weights (--init-from takes them)")
    if init:
        lines.append(f"--init-from: weights of {init['run']} ({init['file']}), optimizer {init['optimizer']}")
    return lines


def fit(core: Core, command: Any, pace: Pace = Pace()) -> tuple[Path, dict[str, Any], int] | None:
    """Run a command to its end in its run folder; return its folder, summary and exit code (0, 1, 129, 130, 143).

    The folder is locked before any data are read. Raises ConfigError, data.DataError or RunError (one line each)
    for what its user can put right. A dry run says how the data are understood and returns None.
    """
    if command.dry_run:
        print(load_inputs(command.config, command.data_dir).line)
        return None
    trackers.check(command.log)
    if command.metrics:
        from models.metrics import registry

        registry.chosen(command.metrics)  # an unknown name is refused before any work
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
                state, init = start(core, command, key, inputs, folder)
                if config.criterion:  # an unknown name is told before anything is trained
                    criterion(config, jax.eval_shape(measure, config, state, inputs.splits["validation"], key)[0])
                longer = begin(folder, command, inputs.dataset, threads, init)
            if folder.summary and folder.summary["status"] == "finished" and not longer:
                draw_missing(folder, command, key, state, inputs)
                return folder.path, folder.summary, 0
            with trackers.Copies(command.log, folder.path, folder.config) as copies:
                folder.metrics.copy = copies
                ended = _fit_in(folder, core, command, key, state, inputs, stop, pace)
                copies.pictures(sorted(folder.figures.glob("*.png")))
            return ended


def cause(
    folder: RunFolder,
    core: Core,
    config: Any,
    key: jax.Array,
    pieces: loop.Programs,
    inputs: Inputs,
    why: dict[str, Any],
    initial: Any,
) -> dict[str, Any]:
    """Return `why`, or the gradient of the step before if that is what spoiled the loss.

    Replays from the last checkpoint (or the start) to the step named: its parameters tell.
    """
    if why["term"] == "gradient" or why["step"] == 0 or "all_terms" not in why:
        return why
    state = initial
    if found := folder.latest():
        state = restore_like(state, found[0])
        if inputs.stream is not None:
            inputs.stream.set_state(found[1]["stream"])
    elif inputs.stream is not None:
        return why  # a stream without a checkpoint cannot go back
    state = loop.replay(pieces, state, why["step"])
    return first_bad_term(state) if int(state.bad_step) >= 0 else why


def start(
    core: Core, command: Any, key: jax.Array, inputs: Inputs, folder: RunFolder
) -> tuple[Any, dict[str, Any] | None]:
    """Return the state of step 0 and what it was taken from: None, or as `initial.started_from` records it."""
    state = _initial(core, command.config, key, inputs)
    source, optimizer, known = command.init_from, command.init_optimizer, None
    if (folder.path / "config.json").exists():
        known = folder.config.get("init_from")
        if source and (known is None or Path(source).resolve() != Path(known["run"]).resolve()):
            began = f"the weights of {known['run']}" if known else "fresh weights"
            raise RunError(f"--init-from {source}: {folder.path} began with {began}; choose another --run-dir")
        again = known if not steps(folder.checkpoints) else None  # with a checkpoint nothing begins again
        source, optimizer = (again["run"], again["optimizer"]) if again else (None, "")
    if source is None:
        return state, known
    state, init = started_from(state, Path(source), optimizer)
    if known and known != init:
        raise RunError(f"{source} no longer holds the weights that {folder.path} began with; choose another --run-dir")
    return state, init


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
    pace: Pace,
) -> tuple[Path, dict[str, Any], int]:
    """Train from where the folder stands, test, draw the figures, write the summary."""
    config, begun = command.config, pace.clock()
    initial = jax.tree.map(jnp.copy, state)
    best, dispatch, before = Best(), command.dispatch, 0.0
    stream = inputs.stream
    found = folder.latest()
    if found:
        path, saved = found
        state = restore_like(state, path)
        dispatch, before = saved["dispatch"], saved["seconds"]
        if stream is not None:
            stream.set_state(saved["stream"])
        best = Best(float(saved["best"]["value"]), saved["best"]["epoch"], saved["best"]["metrics"])
    elif dispatch == "auto":
        dispatch = choose_dispatch(core, config, key, state, inputs)
    folder.rewind(int(state.step), found and found[1])
    pieces = programs(core, config, key, inputs, dispatch)

    def meta() -> dict[str, Any]:
        seconds = before + pace.clock() - begun
        return {"dispatch": dispatch, "seconds": seconds, "stream": stream and stream.get_state()}

    unit = "images" if len(inputs.dataset.shape) == 3 else "examples"
    steps, start = (pieces.per_epoch * pieces.epochs, pieces.per_epoch, config.batch_size), int(state.step)
    with Progress(*steps, start, unit, clock=pace.clock) as progress:
        outcome = loop.run(pieces, state, folder, best, meta, stop, progress.update, pace)
    if outcome.status == "diverged":
        why = cause(folder, core, config, key, pieces, inputs, outcome.why, initial)
        outcome = outcome._replace(why=why | ({"data": inputs.unit} if why["step"] == 0 else {}))
    status = finish(folder, command, key, outcome, inputs, stop, meta)
    code = stop.exit_code if status == "preempted" else int(status != "finished")
    return folder.path, folder.summary or {}, code
