"""The compiled pieces of a run: the functions of `train.py`, jitted, and how many steps a call takes."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.batch import Batch
from training.devices import measured_choice
from training.evaluate import criterion, measure, ramp_epochs
from training.examples import Examples, scale
from training.host.loop import Programs
from training.inputs import Inputs, needs_labels
from training.terms import last_gradient_is_bad


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
    train_step: Callable[..., Any]
    make_optimizer: Callable[..., Any]
    start_epoch: Callable[..., Any]
    epoch_order: Callable[..., Any]
    run_keys: Callable[..., Any]
    steps_per_epoch: Callable[..., int]


def train_on(
    core: Core, n: int, range: Any, state: Any, config: Any, key: jax.Array, raw: Any, label: Any = None
) -> Any:
    """Advance by one batch of stored values that comes from a stream over `n` examples."""
    batch = Batch(scale(jnp.asarray(raw), range), label)
    return last_gradient_is_bad(core.train_step(state, config, core.make_optimizer(config, n), key, batch))


def programs(core: Core, config: Any, key: jax.Array, inputs: Inputs, dispatch: str) -> Programs:
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
    on = jax.jit(functools.partial(train_on, core, n, inputs.range), donate_argnums=0)
    order = jax.jit(core.epoch_order, static_argnums=2)
    judge = jax.jit(measure)
    labelled = needs_labels(config.model)
    per_epoch = core.steps_per_epoch(config, n)

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

    def validate(state: Any) -> tuple[dict[str, float], dict[str, list[float]]]:
        return plain(judge(floats, state, splits["validation"], k_valid))

    return Programs(
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
