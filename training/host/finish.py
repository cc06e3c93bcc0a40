"""The end of a run: which parameters are tested, the test metrics, the figures, the summary."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from training.evaluate import first_bad_metric, measure, trained_model, training_mean
from training.host.loop import Outcome
from training.host.programs import plain
from training.inputs import Inputs
from training.pictures import figures
from training.signals import StopSignals
from training.store.arrays import params_sha256
from training.store.checkpoint import restore_like, step_path
from training.store.metrics_file import read_metrics
from training.store.run_folder import RunFolder


def finish(
    folder: RunFolder,
    command: Any,
    key: jax.Array,
    outcome: Outcome,
    inputs: Inputs,
    stop: StopSignals,
    meta: Callable[[], dict[str, Any]],
) -> str:
    """Test a run that came to its end, draw its figures, write the summary; return its status.

    `tested` says whose the test numbers and `params_sha256` are: "best" where patience selects an epoch, else "last";
    `tested_file` is the checkpoint that holds them. A test metric that is not finite ends the run as diverged.
    """
    config, state, status, end = command.config, outcome.state, outcome.status, outcome.why
    saved = lambda: {"dispatch": meta()["dispatch"], "seconds": meta()["seconds"]}
    summary: dict[str, Any] = {"last": outcome.row, "best": outcome.best._asdict(), "end": end, "test": None}
    summary |= {"params_sha256": _digest(config, state), "tested": None, "tested_file": None}
    if status == "finished" and config.patience and not outcome.best.epoch:
        status, summary["end"] = "failed", {"step": end["step"], "term": "no epoch was validated, nothing to test"}
    if status == "finished":
        folder.finish("preempted", **summary, **saved())  # should the rest be cut short
        with stop.at_once(f"trained and saved, but not tested; continue with: --resume --run-dir {folder.path}"):
            path = folder.best(outcome.best.epoch) if config.patience else None
            state = restore_like(state, path) if path else state
            name = (path or step_path(folder.checkpoints, int(state.step))).relative_to(folder.path)
            summary |= {"tested": "best" if path else "last", "tested_file": str(name)}
            test, vectors = evaluated(config, state, inputs, key)
            summary |= {"params_sha256": _digest(config, state), "test": test, **vectors}
            if bad := first_bad_metric(test):
                status, summary["end"] = "diverged", {"step": int(state.step), "term": f"test {bad}"}
            if command.figures:
                draw(folder, config, state, inputs, key)
    folder.finish(status, **summary, **saved())
    return status


def _digest(config: Any, state: Any) -> str:
    """Return the digest of the parameters that are evaluated: of their running mean where the run keeps one."""
    return params_sha256(nnx.state(trained_model(config, state), nnx.Param))


def evaluated(
    config: Any, state: Any, inputs: Inputs, key: jax.Array
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return the test metrics and those per dimension of the code.

    The baseline's mean is that of the training examples; of a stream, that of the validation split, which is at hand.
    """
    known = inputs.splits.get("train", inputs.splits["validation"])
    judge = jax.jit(lambda c, s, test, known: measure(c, s, test, jax.random.fold_in(key, 2), _mean(c, known)))
    return plain(judge(config, state, inputs.splits["test"], known))


def _mean(config: Any, known: Any) -> jax.Array:
    return training_mean(known, config.binarise)


def draw(folder: RunFolder, config: Any, state: Any, inputs: Inputs, key: jax.Array) -> list[Path]:
    """Draw the figures of a run with this state."""
    rows, answer = read_metrics(folder.metrics.path), getattr(config.objective, "answer", None)
    model = trained_model(config, state)
    return figures.write_all(folder.figures, model, inputs.dataset, rows, jax.random.fold_in(key, 3), answer)


def draw_missing(folder: RunFolder, command: Any, key: jax.Array, state: Any, inputs: Inputs) -> None:
    """Draw the figures of a finished run that has none or lost one, unless the command says --no-figures."""
    summary = folder.summary
    whole = any(folder.figures.glob("*.png")) and not folder.lost_figures()
    if summary is None or not command.figures or whole:
        return
    config = command.config
    path = folder.best(summary["best"]["epoch"]) if config.patience else (folder.latest() or (None,))[0]
    if path is None:
        return
    draw(folder, config, restore_like(state, path), inputs, key)
    sealed = ("status", "figures", "identity", "digest")
    folder.finish(summary["status"], **{name: value for name, value in summary.items() if name not in sealed})
