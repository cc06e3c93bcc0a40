"""The host's side of a run: the steps of `train.train` cut into dispatches, checkpoints, signals, early stopping.

All arithmetic is in the programs handed in; this file decides only when they run. How many steps a dispatch
takes never changes the result: one program with a traced step count serves every chunk.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from training.evaluate import Best, first_bad_metric, patience_is_over
from training.signals import StopSignals
from training.store.metrics_file import read_metrics
from training.store.run_folder import RunFolder
from training.terms import first_bad_term


class Pace(NamedTuple):
    """When the host acts; none of it changes a result."""

    chunk: int = 0  # steps of every dispatch; 0: as many as take about `dispatch_seconds`
    dispatch_seconds: float = 0.25  # signals and progress are served between dispatches
    save_seconds: float = 3.0  # shortest time between checkpoints, longer where a save takes over 1/20 of it; 0: all
    clock: Callable[[], float] = time.monotonic
    after: Callable[[int], None] = lambda step: None  # called with the step after every dispatch


class Programs(NamedTuple):
    """The compiled pieces of one run; `state` is any pytree with `step`, `sums`, `bad_step`, `bad_terms`."""

    start_epoch: Callable[[Any], Any]
    order: Callable[[int], Any]  # epoch -> what `advance` needs to know of it
    advance: Callable[[Any, Any, int], Any]  # (state, order, count) -> state; may consume the state
    validate: Callable[[Any], tuple[dict[str, float], dict[str, list[float]]]]  # -> metrics, and those per dimension
    per_epoch: int
    epochs: int
    patience: int
    ramps: int  # epochs until every ramp is over
    criterion: Callable[[dict[str, Any]], float]  # validation metrics -> what is minimised


class Outcome(NamedTuple):
    """How a run ended: status, last state, its last row of metrics, the best validation."""

    status: str
    state: Any
    row: dict[str, Any]
    best: Best
    why: dict[str, Any]


class Chunks:
    """Chooses how many steps the next dispatch takes, from the time the last ones took."""

    def __init__(self, pace: Pace):
        self.pace, self.size, self.first = pace, pace.chunk or 1, True

    def record(self, count: int, elapsed: float) -> None:
        """Learn from a dispatch; the first one compiled and says nothing."""
        if self.pace.chunk:
            return
        if self.first:
            self.first = False
            return
        per_step = max(elapsed / count, 1e-7)
        self.size = int(np.clip(self.pace.dispatch_seconds / per_step, 1, max(1, 8 * self.size)))


class Saver:
    """Writes checkpoints no more often than is worth it; a best state waits in memory until then."""

    def __init__(self, folder: RunFolder, meta: Callable[[], dict[str, Any]], pace: Pace):
        self.folder, self.meta, self.pace = folder, meta, pace
        self.pending: tuple[Any, Best] | None = None
        self.last, self.cost = pace.clock(), 0.0

    def due(self) -> bool:
        """Whether enough time has passed since the last checkpoint."""
        rest = max(self.pace.save_seconds, 20 * self.cost) if self.pace.save_seconds else 0.0
        return self.pace.clock() - self.last >= rest

    def save(self, state: Any, best: Best) -> None:
        """Write the waiting best state, then `state`."""
        start = self.pace.clock()
        step = int(state.step)
        if self.pending is not None:
            best_state, at = self.pending
            self.folder.save(int(best_state.step), best_state, self._meta(at), best=True)
            self.pending = None
            if int(best_state.step) != step:
                self.folder.save(step, state, self._meta(best))
        else:
            self.folder.save(step, state, self._meta(best))
        self.last = self.pace.clock()
        self.cost = self.last - start

    def _meta(self, best: Best) -> dict[str, Any]:
        return self.meta() | {"best": best._asdict()}


def replay(programs: Programs, state: Any, until: int) -> Any:
    """Advance `state` to step `until` and no further; the result is that of any other chunks."""
    while (step := int(state.step)) < until:
        epoch, within = divmod(step, programs.per_epoch)
        if within == 0:
            state = programs.start_epoch(state)
        count = min(until - step, programs.per_epoch - within)
        state = programs.advance(state, programs.order(epoch), count)
    return state


def run(
    programs: Programs,
    state: Any,
    folder: RunFolder,
    best: Best,
    meta: Callable[[], dict[str, Any]],
    stop: StopSignals,
    report: Callable[[int, float | None], None],
    pace: Pace = Pace(),
) -> Outcome:
    """Advance `state` to the end of the run, or to a signal, early stop, or a term or metric that is not finite.

    Every way out leaves a checkpoint of the last good state (for a non-finite term: the one before it).
    """
    chunks, saver = Chunks(pace), Saver(folder, meta, pace)
    rows = read_metrics(folder.metrics.path)
    row = {name: value for name, value in rows[-1].items() if name != "seconds"} if rows else {}
    step, total = int(state.step), programs.epochs * programs.per_epoch
    order, epoch_of_order = None, -1
    while step < total and not _is_over(programs, step, best):
        epoch, within = divmod(step, programs.per_epoch)
        if epoch != epoch_of_order:
            order, epoch_of_order = programs.order(epoch), epoch
        if within == 0:
            state = programs.start_epoch(state)
        count = min(chunks.size, programs.per_epoch - within)
        start = pace.clock()
        state = programs.advance(state, order, count)
        bad_step = int(state.bad_step)  # waits for the device
        chunks.record(count, pace.clock() - start)
        step += count
        if bad_step >= 0:
            return Outcome("diverged", state, row, best, first_bad_term(state))
        report(step, row["train"]["loss"] if row else None)
        pace.after(step)
        if step % programs.per_epoch == 0:
            row, best, improved = _end_epoch(programs, state, step, best)
            folder.metrics.append({**row, "seconds": round(meta()["seconds"], 3)})
            if bad := first_bad_metric(row["validation"]):
                return Outcome("diverged", state, row, best, {"step": step, "term": f"validation {bad}"})
            if improved:
                saver.pending = (jax.tree.map(jnp.copy, state), best)
        if stop:
            saver.save(state, best)
            return Outcome("preempted", state, row, best, {"step": step})
        if saver.due():
            saver.save(state, best)
    saver.save(state, best)
    return Outcome("finished", state, row, best, {"step": step, "stopped_early": step < total})


def _is_over(programs: Programs, step: int, best: Best) -> bool:
    """Whether patience has ended: `train.train` asks the same at the start of an epoch."""
    return bool(patience_is_over(programs.patience, step // programs.per_epoch, best, programs.ramps))


def _end_epoch(programs: Programs, state: Any, step: int, best: Best) -> tuple[dict[str, Any], Best, bool]:
    """Return the epoch's row, the best so far, and whether this epoch is it."""
    sums = jax.device_get(state.sums)
    epoch = step // programs.per_epoch
    unit = {name: f"{name}_nats" for name in ("nll", "kl", "negative_elbo")}  # as the validation metrics are named
    validation, vectors = programs.validate(state)
    if "cross_entropy_nats" in validation:  # of grey values: no likelihood, and no bound on one
        unit |= {"nll": "cross_entropy_nats", "negative_elbo": "penalised_cross_entropy_nats"}
    train = {unit.get(name, name): float(total) / programs.per_epoch for name, total in sums.items()}
    row = {"step": step, "epoch": epoch, "train": train, "validation": validation, **vectors}
    value = float(programs.criterion(validation))
    if value < best.value:
        return row, Best(value, epoch, validation), True
    return row, best, False
